"""Checks of what a subject says of itself, records and refuses."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from harness.data.batch import Batch, Vocabulary, Width
from harness.data.contracts import Intervention, Subject
from harness.data.grouping import Labels
from harness.data.recording import ROUTER, Rows
from harness.data.stages import STAGES, inputs_of
from harness.data.tokens import Tokens
from harness.data.units import UnitSpace
from harness.data.vectors import Vectors
from harness.testing.bench import Bench, bench, loaded, named
from harness.testing.checks import Check, NotChecked, Violation, require, require_sentence
from harness.testing.probes import Keep, Output
from harness.util.errors import HarnessError

# ----------------------------------------------------------------------------------------------------------------------
# What it says of itself
# ----------------------------------------------------------------------------------------------------------------------


def loads_and_names_its_units(plugin: Any) -> None:
    """It has a label and ordered units, and says what it reads, records and gives."""
    subject = loaded(plugin)
    require(isinstance(subject, Subject), f"it returns {type(subject).__name__}, not Subject: inherit from Subject")
    require(isinstance(subject.label, str) and subject.label, "its `label` is not a non-empty string")
    require(isinstance(subject.units, UnitSpace), "its `units` are not a UnitSpace: use UnitSpace(units)")
    kinds = (Vocabulary, Width, type(None))
    require(isinstance(subject.reads, kinds), "its `reads` is neither Vocabulary(...) nor Width(...) nor None")
    words = isinstance(subject.sources, Mapping) and all(
        isinstance(text, str) and text for text in subject.sources.values()
    )
    require(words, "its `sources` do not describe each source in words: use {name: description}")
    unknown = sorted(set(subject.gives) - set(STAGES["intervention"].asks))
    require(not unknown, f"it gives {named(unknown)}, which no intervention can ask for")
    known = subject.truth is None or (isinstance(subject.truth, Labels) and subject.truth.units == subject.units)
    require(known, "its `truth` is not Labels of its units")


def lists_checkpoints_of_the_same_units(plugin: Any) -> None:
    """Its checkpoints are subjects by step; the first and the last have its units and different weights."""
    checkpoints = dict(sorted(plugin.checkpoints().items()))
    if not checkpoints:
        raise NotChecked("it has no checkpoints")
    require(all(type(step) is int for step in checkpoints), "the keys of `checkpoints` are not training steps")
    methods = list(checkpoints.values())
    ends = [loaded(method) for method in (methods[0], methods[-1])]
    for end in ends:
        require(end.units == loaded(plugin).units, f"its checkpoint {end.label} has other units")
    weights = {end.about.get("weights") for end in ends}
    require(len(checkpoints) == 1 or None in weights or len(weights) == 2, "its first and last weights are equal")


# ----------------------------------------------------------------------------------------------------------------------
# What it records
# ----------------------------------------------------------------------------------------------------------------------


def records_every_source(plugin: Any) -> None:
    """Every source has finite rows for each example and unit, site by site, joined in the order of the units.

    Routers are read along experts: probabilities of all experts of one layer after the other.
    """
    test = bench(plugin)
    for source in test.subject.sources:
        keep, recording = test.record(test.batch, source)
        columns = _columns(test, source, keep)
        for rows in keep.rows:
            _judge_rows(test, source, rows, columns)
        values = recording.readings["signal"]
        shape = (len(test.batch), sum(map(len, columns.values())))
        require(np.shape(values) == shape, f"readings of '{source}' have shape {np.shape(values)}, not {shape}")
        for site, places in columns.items():
            read = sorted(example for rows in keep.rows if rows.site == site for example in rows.examples.tolist())
            once = read == list(range(len(test.batch)))
            require(once, f"readers of '{source}' do not get every example once at {site}")
            require(
                _close(values[:, places], keep.values_at(site).sum(axis=2)),
                f"readings of '{source}' at {site} are not those of its units and examples, in order: join sites in "
                "the order of `units` (routers: of layers), and examples in the order of the batch",
            )


def _columns(test: Bench, source: str, keep: Keep) -> dict[str, list[int]]:
    """By site, its columns in the joined readings: those of its units, or of a router's experts."""
    units = test.subject.units
    if source != ROUTER:
        return {site: list(units.at_sites([site])) for site in units.sites}
    columns: dict[str, list[int]] = {}
    for rows in keep.rows:
        start = sum(map(len, columns.values()))
        columns.setdefault(rows.site, list(range(start, start + rows.values.shape[1])))
    return columns


def _judge_rows(test: Bench, source: str, rows: Rows, columns: Mapping[str, list[int]]) -> None:
    require(rows.source == source, f"rows of '{source}' say that they are '{rows.source}'")
    require(rows.site in columns, f"rows of '{source}' name the site '{rows.site}', which has no units")
    shape, expected = np.shape(rows.values), (len(rows.examples), len(columns[rows.site]))
    require(
        len(shape) == 3 and shape[:2] == expected,
        f"rows of '{source}' at {rows.site} have shape {shape}, not ({expected[0]}, {expected[1]}, ...)",
    )
    require(np.isfinite(rows.values).all(), f"'{source}' is NaN or infinite at {rows.site}")
    probable = source != ROUTER or (rows.values.min() >= 0 and rows.values.max() <= 1 and rows.values.shape[2] == 1)
    require(probable, f"'{source}' at {rows.site} is not one probability per expert: read it after softmax or sigmoid")
    require(
        rows.whole.digest == test.batch.digest and rows.batch.digest == rows.whole.take(rows.examples).digest,
        f"rows of '{source}' do not have `whole` = the batch and `batch` = whole.take(examples)",
    )


def _close(values: np.ndarray, others: np.ndarray) -> bool:
    return bool(np.allclose(values, others, rtol=1e-4, atol=1e-5))


def records_attention_weights(plugin: Any) -> None:
    """Attention weights are not negative, sum to at most one, and are zero after the query."""
    test = bench(plugin)
    if "attention" not in test.subject.sources:
        raise NotChecked("it does not record attention")
    keep, _ = test.record(test.batch, "attention")
    for site in test.subject.units.sites:
        weights = keep.values_at(site)
        hidden = np.arange(weights.shape[2]) > test.batch.query[:, None]
        require(
            not np.moveaxis(weights, 1, 2)[hidden].any(),
            "a head attends to keys after the query: cut the sequence at the query",
        )
        # At most one: some attention may go to a sink outside the sequence.
        require(
            weights.min() >= 0 and weights.sum(axis=2).max() <= 1 + 1e-4,
            "attention weights are not probabilities: read them after the softmax",
        )


def refuses_a_source_that_it_does_not_have(plugin: Any) -> None:
    """Reading an unknown source is an error in words."""
    test = bench(plugin)
    _require_refusal(
        partial(test.record, test.batch, "no_such_source"),
        "a reader of 'no_such_source'",
        "call harness.data.requests.check_sources(self, readers) in record",
    )


# ----------------------------------------------------------------------------------------------------------------------
# What it refuses
# ----------------------------------------------------------------------------------------------------------------------


def refuses_a_batch_that_it_cannot_read(plugin: Any) -> None:
    """Ids outside the vocabulary, vectors of another width, another kind of example: an error in words."""
    test = bench(plugin)
    source = next(iter(test.subject.sources), "activation")
    for what, batch in _unreadable(test):
        fix = "call batch.check(self.reads) in record and evaluate"
        _require_refusal(partial(test.record, batch, source), f"{what}, which it cannot record,", fix)
        _require_refusal(partial(test.evaluate, [()], Output(), batch), f"{what}, which it cannot evaluate,", fix)


def _unreadable(test: Bench) -> Iterator[tuple[str, Batch]]:
    reads, batch = test.subject.reads, test.batch
    if isinstance(batch, Tokens) and isinstance(reads, Vocabulary):
        yield "token ids outside the vocabulary", dataclasses.replace(batch, tokens=batch.tokens + reads.vocab_size)
        zeros = np.zeros((len(batch), 4), dtype=np.float32)
        yield "vectors", Vectors("contract", zeros, np.zeros(len(batch), dtype=np.int64), "class")
    if isinstance(batch, Vectors) and isinstance(reads, Width):
        wider = np.zeros((len(batch), reads.inputs + 1), dtype=np.float32)
        yield "vectors of another width", dataclasses.replace(batch, inputs=wider, counterfactual=None)
        targets = np.full(len(batch), reads.outputs)
        yield "classes outside its outputs", dataclasses.replace(batch, target=targets, counterfactual=None)
        one = np.zeros((len(batch), 1), dtype=np.int64)
        yield "token sequences", Tokens("contract", one, one[:, 0], one[:, 0], {}, "random")


def refuses_an_intervention_that_asks_for_more_than_it_gives(plugin: Any) -> None:
    """An intervention that asks for something else is an error in words."""
    test = bench(plugin)
    for name in STAGES["intervention"].asks:
        if name not in test.subject.gives:
            _require_refusal(
                partial(test.evaluate, [(), (0,)], _asking(name)),
                f"an intervention that asks for '{name}'",
                "call harness.data.requests.check_gives(self, intervention) in evaluate",
            )


def _asking(name: str) -> Intervention:
    """An intervention that asks for this input only."""
    space: dict[str, Any] = {}
    exec(f"def __call__(self, {name}): return {name}", space)  # our own words
    intervention: Intervention = type("Asking", (Output,), {"__call__": space["__call__"]})()
    assert inputs_of(type(intervention)) == (name,)
    return intervention


def refuses_groups_that_cannot_be_ablated_together(plugin: Any) -> None:
    """More units of a site than `units.at_most` allows are an error in words."""
    test = bench(plugin)
    for site, limit in test.subject.units.at_most.items():
        group = test.subject.units.at_sites([site])[: limit + 1]
        if len(group) > limit:
            _require_refusal(
                partial(test.evaluate, [group], Output()),
                f"{len(group)} units of {site}, of which {limit} can be ablated together,",
                "raise a HarnessError in evaluate where self.units.allows(group) is false",
            )


def _require_refusal(call: Callable[[], object], given: str, fix: str) -> None:
    try:
        call()
    except HarnessError as error:
        require_sentence(error)
        require(error.fix, f"its error {error.what!r} has no fix: use HarnessError(what, fix)")
    except Violation:
        raise
    except Exception as error:
        raise Violation(f"{given} raises {type(error).__name__}: {error}. Raise a HarnessError: {fix}") from error
    else:
        raise Violation(f"{given} is accepted: {fix}")


SUBJECT: tuple[Check, ...] = (
    loads_and_names_its_units,
    lists_checkpoints_of_the_same_units,
    records_every_source,
    records_attention_weights,
    refuses_a_source_that_it_does_not_have,
    refuses_a_batch_that_it_cannot_read,
    refuses_an_intervention_that_asks_for_more_than_it_gives,
    refuses_groups_that_cannot_be_ablated_together,
)
