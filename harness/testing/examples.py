"""Small artificial inputs for every stage: three planted blocks of units, different queries, a vocabulary of words."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from harness.data.batch import Batch, Counterfactual, Vocabulary, Width
from harness.data.grouping import UNCLASSIFIED, Affinity, Labels, Partition, Stability
from harness.data.history import History
from harness.data.recording import Activity, Reader, Recording, Rows, Scores, Source, Spins
from harness.data.stages import inputs_of
from harness.data.tokens import Tokens
from harness.data.units import UnitSpace

UNITS = UnitSpace.heads([8, 8, 8])
BLOCKS = np.arange(len(UNITS)) % 3  # every block has units in every layer
OBSERVATIONS = 128


def word_vocabulary(vocab_size: int = 2000, context: int = 256) -> Vocabulary:
    """The vocabulary of a subject: one token per word, by its checksum. Its task has random examples."""

    def encode(text: str) -> list[int]:
        return [zlib.crc32(word.encode()) % vocab_size for word in text.split()]

    return Vocabulary(vocab_size, context, encode, task=lambda n, rng: batch(n, vocab_size, min(48, context), rng))


def strength() -> Float[np.ndarray, " units"]:
    """The mean output norm of each unit: positive and all different."""
    return np.random.default_rng(8).gamma(2.0, size=len(UNITS))


def usage() -> Float[np.ndarray, " units"]:
    """The share of examples on which each unit is active; a few units never are."""
    return np.maximum(0, np.random.default_rng(9).uniform(-0.2, 1, size=len(UNITS)))


def activity(n_units: int = len(UNITS)) -> Activity:
    """Units of a block share a signal; no unit is constant."""
    rng = np.random.default_rng(0)
    shared, noise = rng.normal(size=(OBSERVATIONS, 3)), rng.normal(size=(OBSERVATIONS, n_units))
    return Activity(shared[:, BLOCKS[:n_units]] + noise, UnitSpace(UNITS.units[:n_units]))


def spins(n_units: int = len(UNITS)) -> Spins:
    """The signs of the activity."""
    signal = activity(n_units)
    return Spins(np.where(signal.values > 0, 1, -1).astype(np.int8), signal.units)


def affinity(n_units: int = len(UNITS)) -> Affinity:
    """Non-negative: 0.8 within a block, 0.1 between blocks, plus a little noise."""
    same = BLOCKS[:n_units, None] == BLOCKS[None, :n_units]
    noise = 0.05 * np.random.default_rng(1).random((n_units, n_units))
    matrix = np.where(same, 0.8, 0.1) + noise + noise.T
    np.fill_diagonal(matrix, 0.0)
    return Affinity(matrix, UnitSpace(UNITS.units[:n_units]))


def partitions() -> list[Partition]:
    """All units but one; by block; by layer (one group fewer than k); by index in the layer."""
    labels = [np.arange(len(UNITS)) == 0, BLOCKS, UNITS.site_of, np.arange(len(UNITS)) % 8]
    return [
        Partition(k, groups.astype(np.int64), stability=Stability(0.9, 1 / k))
        for k, groups in zip((2, 3, 4, 8), labels, strict=True)
    ]


def given(plugin: Any, **instead: Any) -> dict[str, Any]:
    """The inputs that a plugin requests: from this module, or those given ``instead``."""
    available: dict[str, Callable[[], Any]] = {
        "vocabulary": word_vocabulary,
        "width": lambda: Width(6, 4),
        "units": lambda: UNITS,
        "truth": labels,
        "batch": lambda: batch(OBSERVATIONS),
        "activity": activity,
        "scores": lambda: activity().scores,
        "spins": spins,
        "observations": spins,
        "affinity": affinity,
        "labels": labels,
        "partitions": partitions,
        "partition": lambda: partitions()[1],
    }
    return {name: instead[name] if name in instead else available[name]() for name in inputs_of(type(plugin))}


def small(plugin: Any, n_units: int) -> dict[str, Any]:
    """The inputs that a plugin requests, for the first few units."""
    few = spins(n_units)
    classes = Labels(labels().classes[:n_units], few.units)
    inputs = {
        "units": few.units,
        "spins": few,
        "observations": few,
        "affinity": affinity(n_units),
        "labels": classes,
        "truth": classes,
    }
    return given(plugin, **inputs, activity=activity(n_units), scores=activity(n_units).scores)


def shuffled(plugin: Any, order: np.ndarray, **instead: Any) -> dict[str, Any]:
    """The inputs that a plugin requests, with the units in another order."""
    units = UNITS.reordered(order)
    inputs = given(plugin, **instead)
    for name, value in inputs.items():
        if name == "units":
            inputs[name] = units
        elif isinstance(value, (Spins, Activity)):
            inputs[name] = type(value)(value.values[:, order], units)
        elif isinstance(value, Scores):
            inputs[name] = Scores(value.values[order], units)
        elif isinstance(value, (Affinity, Labels)):
            inputs[name] = value.reordered(order, units)
    return inputs


def labels(known: bool = True) -> Labels:
    """One class per block; the last two units are unclassified and without a label. Or (not ``known``) no labels.

    A unit of a class has a selectivity of 50 for it, and every other selectivity is 1.
    """
    names = ("induction", "previous-token", "duplicate-token")
    if not known:
        return Labels((None,) * len(UNITS), UNITS)
    classes: list[str | None] = [names[block] for block in BLOCKS]
    classes[-2:] = [UNCLASSIFIED, None]
    selectivity = {name: np.where([c == name for c in classes], 50.0, 1.0) for name in names}
    return Labels(tuple(classes), UNITS, selectivity)


def batch(n: int = 24, vocab_size: int = 50, positions: int = 48, rng: np.random.Generator | None = None) -> Tokens:
    """Random tokens, different query positions, anchors of every class, random counterfactuals."""
    rng = rng or np.random.default_rng(2)
    query = positions - 1 - np.arange(n) % 20
    first = rng.integers(6, 20, n)
    anchors = {
        "induction": first[:, None] + 1,
        "previous-token": query[:, None] - 1,
        "duplicate-token": first[:, None],
        "first-token": np.zeros((n, 1), dtype=np.int64),
        "self": query[:, None],
        "local": query[:, None] - np.arange(2, 6),
    }
    tokens, target = rng.integers(0, vocab_size, (n, positions)), rng.integers(0, vocab_size, n)
    counterfactual = Counterfactual(
        rng.integers(0, vocab_size, (n, positions)), (target + rng.integers(1, vocab_size, n)) % vocab_size
    )
    return Tokens("contract", tokens, query, target, anchors, "successor", counterfactual=counterfactual)


def rows(source: Source, whole: Tokens, at_once: int, checkpoint: int = 0) -> Iterator[Rows]:
    """The rows of a subject with the units :data:`UNITS`: ``at_once`` examples at a time, site by site. Those of
    another ``checkpoint`` are drawn anew."""
    for start in range(0, len(whole), at_once):
        chosen = np.arange(start, min(start + at_once, len(whole)))
        part = whole.take(chosen)
        for layer, site in enumerate(UNITS.sites):
            yield Rows(
                source, site, _VALUES[source](layer + checkpoint * len(UNITS.sites), whole)[chosen], part, whole, chosen
            )


def read(reader: Reader, name: str, at_once: int = 100, n: int = 24, checkpoint: int = 0) -> Recording:
    """A recording of one reader, joined over examples and sites."""
    whole = batch(n)
    sites: dict[str, list[np.ndarray]] = {site: [] for site in UNITS.sites}
    for seen in rows(reader.source, whole, at_once, checkpoint):
        sites[seen.site].append(reader.read(seen))
    joined = np.concatenate([np.concatenate(parts) for parts in sites.values()], axis=1)
    return Recording(whole, UNITS, {name: joined})


def history(reader: Reader, name: str, at_once: int = 100) -> History:
    """The recordings of one reader at three checkpoints; the last one is :func:`read`."""
    recordings = tuple(read(reader, name, at_once, checkpoint=checkpoint) for checkpoint in (2, 1, 0))
    return History((0, 100, 1000), recordings)


def _attention(layer: int, batch: Tokens) -> Float[np.ndarray, "examples units keys"]:
    """Weights that sum to one over the keys up to the query, and are exactly zero after it."""
    scores = np.random.default_rng([3, layer]).normal(0, 2, (len(batch), 8, batch.tokens.shape[1]))
    seen: Int[np.ndarray, "examples keys"] = (np.arange(scores.shape[2]) <= batch.query[:, None]).astype(np.int64)
    weights = np.exp(scores) * seen[:, None, :]
    rows: Float[np.ndarray, "examples units keys"] = (weights / weights.sum(axis=2, keepdims=True)).astype(np.float32)
    return rows


def _head_output(layer: int, batch: Batch) -> Float[np.ndarray, "examples units head_dim"]:
    return np.random.default_rng([4, layer]).normal(size=(len(batch), 8, 5)).astype(np.float32)


def _contribution(layer: int, batch: Batch) -> Float[np.ndarray, "examples units d_model"]:
    return np.random.default_rng([5, layer]).normal(size=(len(batch), 8, 12)).astype(np.float32)


def _first_order(layer: int, batch: Batch) -> Float[np.ndarray, "examples units 1"]:
    return np.random.default_rng([6, layer]).normal(size=(len(batch), 8, 1)).astype(np.float32)


def _importance(layer: int, batch: Batch) -> Float[np.ndarray, "examples units 1"]:
    return np.random.default_rng([8, layer]).uniform(size=(len(batch), 8, 1)).astype(np.float32)


def _router(layer: int, batch: Batch) -> Float[np.ndarray, "examples experts 1"]:
    """Probabilities of the layer's units, which sum to one."""
    return np.random.default_rng([7, layer]).dirichlet(np.ones(8), len(batch)).astype(np.float32)[:, :, None]


_VALUES: Mapping[Source, Callable[[int, Tokens], np.ndarray]] = {
    "attention": _attention,
    "head_output": _head_output,
    "activation": _head_output,
    "contribution": _contribution,
    "first_order": _first_order,
    "importance": _importance,
    "router": _router,
}
RECORDED: Mapping[str, Callable[..., Any]] = {"recording": read, "history": history}
"""The inputs that are recorded for a method, with a function of the method, its stage and ``at_once``."""
