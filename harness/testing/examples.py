"""Small made inputs for every stage: three planted blocks of units, ragged queries, a vocabulary of words."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from harness.data.batch import CLASSES, Batch, Counterfactual
from harness.data.grouping import UNCLASSIFIED, Affinity, Labels, Partition, Stability
from harness.data.recording import Activity, Reader, Recording, Rows, Scores, Source, Spins
from harness.data.stages import inputs_of
from harness.data.units import UnitSpace

UNITS = UnitSpace.heads([8, 8, 8])
BLOCKS = np.arange(len(UNITS)) % 3  # every block has units in every layer
OBSERVATIONS = 128


@dataclass(frozen=True)
class WordVocabulary:
    """A vocabulary as a subject has one: a token per word, by its checksum."""

    vocab_size: int = 2000
    context: int = 256

    def encode(self, text: str) -> list[int]:
        """A token id per word."""
        return [zlib.crc32(word.encode()) % self.vocab_size for word in text.split()]


def strength() -> Float[np.ndarray, " units"]:
    """How strongly each unit writes: positive, all different, in no order."""
    return np.random.default_rng(8).gamma(2.0, size=len(UNITS))


def activity(n_units: int = len(UNITS)) -> Activity:
    """Units of a block share a signal; everything varies."""
    rng = np.random.default_rng(0)
    shared, own = rng.normal(size=(OBSERVATIONS, 3)), rng.normal(size=(OBSERVATIONS, n_units))
    return Activity(shared[:, BLOCKS[:n_units]] + own, UnitSpace(UNITS.units[:n_units]))


def spins(n_units: int = len(UNITS)) -> Spins:
    """The activity's signs."""
    made = activity(n_units)
    return Spins(np.where(made.values > 0, 1, -1).astype(np.int8), made.units)


def affinity(n_units: int = len(UNITS)) -> Affinity:
    """Non-negative: 0.8 within a block, 0.1 between blocks, and a little noise."""
    same = BLOCKS[:n_units, None] == BLOCKS[None, :n_units]
    noise = 0.05 * np.random.default_rng(1).random((n_units, n_units))
    matrix = np.where(same, 0.8, 0.1) + noise + noise.T
    np.fill_diagonal(matrix, 0.0)
    return Affinity(matrix, UnitSpace(UNITS.units[:n_units]))


def partitions() -> list[Partition]:
    """Everything together but one unit; by block; by layer (one group fewer than asked for); by place in the layer."""
    labels = [np.arange(len(UNITS)) == 0, BLOCKS, UNITS.layers, np.arange(len(UNITS)) % 8]
    return [
        Partition(k, made.astype(np.int64), stability=Stability(0.9, 1 / k))
        for k, made in zip((2, 3, 4, 8), labels, strict=True)
    ]


def given(plugin: Any, **instead: Any) -> dict[str, Any]:
    """What a plugin asks for, made here but for what is given ``instead``."""
    made: dict[str, Callable[[], Any]] = {
        "vocabulary": WordVocabulary,
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
    return {name: instead[name] if name in instead else made[name]() for name in inputs_of(type(plugin))}


def small(plugin: Any, n_units: int) -> dict[str, Any]:
    """What a plugin asks for, of the first few units."""
    seen = spins(n_units)
    known = Labels(labels().classes[:n_units], seen.units)
    few = {"units": seen.units, "spins": seen, "observations": seen, "affinity": affinity(n_units), "labels": known}
    return given(plugin, **few, activity=activity(n_units), scores=activity(n_units).scores)


def shuffled(plugin: Any, order: np.ndarray, **instead: Any) -> dict[str, Any]:
    """What a plugin asks for, its units in another order."""
    units = UnitSpace(tuple(UNITS.units[i] for i in order))
    made = given(plugin, **instead)
    for name, value in made.items():
        if name == "units":
            made[name] = units
        elif isinstance(value, (Spins, Activity)):
            made[name] = type(value)(value.values[:, order], units)
        elif isinstance(value, Scores):
            made[name] = Scores(value.values[order], units)
        elif isinstance(value, Affinity):
            made[name] = value.reordered(order, units)
        elif isinstance(value, Labels):
            made[name] = Labels(tuple(value.classes[i] for i in order), units)
    return made


def labels(known: bool = True) -> Labels:
    """A class per block, its last two units unclassified and unknown; or nothing known at all."""
    classes: list[str | None] = [CLASSES[block] if known else None for block in BLOCKS]
    classes[-2:] = [UNCLASSIFIED if known else None, None]
    return Labels(tuple(classes), UNITS)


def batch(n: int = 24, vocab_size: int = 50, positions: int = 48) -> Batch:
    """Random tokens, query positions that vary, anchors of every class; a counterfactual of other tokens with another target."""
    rng = np.random.default_rng(2)
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
    return Batch("contract", tokens, query, target, anchors, "successor", counterfactual=counterfactual)


def rows(source: Source, whole: Batch, at_once: int) -> Iterator[Rows]:
    """What a subject with the units :data:`UNITS` would deliver, ``at_once`` examples at a time, layer by layer."""
    for start in range(0, len(whole), at_once):
        chosen = np.arange(start, min(start + at_once, len(whole)))
        part = whole.take(chosen)
        for layer in range(3):
            yield Rows(source, layer, _MADE[source](layer, whole)[chosen], part, whole, chosen)


def read(reader: Reader, name: str, at_once: int = 100) -> Recording:
    """A recording with one reader's reductions, joined over examples and layers."""
    whole = batch()
    layers: dict[int, list[np.ndarray]] = {}
    for seen in rows(reader.source, whole, at_once):
        layers.setdefault(seen.layer, []).append(reader.read(seen))
    joined = np.concatenate([np.concatenate(layers[layer]) for layer in sorted(layers)], axis=1)
    return Recording(whole, UNITS, {name: joined})


def _attention(layer: int, of: Batch) -> Float[np.ndarray, "examples heads keys"]:
    """Rows that add to one over the keys up to the query, and are exactly zero after it."""
    scores = np.random.default_rng([3, layer]).normal(0, 2, (len(of), 8, of.tokens.shape[1]))
    seen: Int[np.ndarray, "examples keys"] = (np.arange(scores.shape[2]) <= of.query[:, None]).astype(np.int64)
    weights = np.exp(scores) * seen[:, None, :]
    made: Float[np.ndarray, "examples heads keys"] = (weights / weights.sum(axis=2, keepdims=True)).astype(np.float32)
    return made


def _head_output(layer: int, of: Batch) -> Float[np.ndarray, "examples heads head_dim"]:
    return np.random.default_rng([4, layer]).normal(size=(len(of), 8, 5)).astype(np.float32)


def _contribution(layer: int, of: Batch) -> Float[np.ndarray, "examples heads d_model"]:
    return np.random.default_rng([5, layer]).normal(size=(len(of), 8, 12)).astype(np.float32)


def _first_order(layer: int, of: Batch) -> Float[np.ndarray, "examples heads 1"]:
    return np.random.default_rng([6, layer]).normal(size=(len(of), 8, 1)).astype(np.float32)


def _router(layer: int, of: Batch) -> Float[np.ndarray, "examples experts 1"]:
    """Probabilities of the layer's units, which add to one."""
    return np.random.default_rng([7, layer]).dirichlet(np.ones(8), len(of)).astype(np.float32)[:, :, None]


_MADE: Mapping[Source, Callable[[int, Batch], np.ndarray]] = {
    "attention": _attention,
    "head_output": _head_output,
    "contribution": _contribution,
    "first_order": _first_order,
    "router": _router,
}
