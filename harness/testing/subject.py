"""Checks of subjects: what they say of themselves, what they record and refuse, and that calls do not affect each
other. The checks of ablation are in :mod:`harness.testing.ablation`."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from harness.data.batch import Batch, Vocabulary, Width
from harness.data.contracts import Intervention, Subject
from harness.data.grouping import Labels
from harness.data.recording import Rows
from harness.data.stages import STAGES, inputs_of
from harness.data.tokens import Tokens
from harness.data.units import UnitSpace
from harness.data.vectors import Vectors
from harness.testing.bench import Bench, bench, loaded, named
from harness.testing.checks import Check, NotChecked, Violation, global_seed, require, require_sentence
from harness.testing.probes import Broken, Look, Noise, Output, Push, Target
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


# ----------------------------------------------------------------------------------------------------------------------
# What it records
# ----------------------------------------------------------------------------------------------------------------------


def records_every_source(plugin: Any) -> None:
    """Every source has finite rows for each example and unit, site by site, joined in the order of the units."""
    test = bench(plugin)
    for source in test.subject.sources:
        keep, recording = test.record(test.batch, source)
        for rows in keep.rows:
            _judge_rows(test, source, rows)
        values = recording.readings["signal"]
        shape = (len(test.batch), len(test.subject.units))
        require(np.shape(values) == shape, f"readings of '{source}' have shape {np.shape(values)}, not {shape}")
        for site in test.subject.units.sites:
            read = sorted(example for rows in keep.rows if rows.site == site for example in rows.examples.tolist())
            once = read == list(range(len(test.batch)))
            require(once, f"readers of '{source}' do not get every example once at {site}")
            joined = values[:, list(test.subject.units.at_sites([site]))]
            require(
                _close(joined, keep.values_at(site).sum(axis=2)),
                f"readings of '{source}' at {site} are not those of its units and examples, in order: join sites in "
                "the order of `units`, and examples in the order of the batch",
            )


def _judge_rows(test: Bench, source: str, rows: Rows) -> None:
    units = test.subject.units
    require(rows.source == source, f"rows of '{source}' say that they are '{rows.source}'")
    require(rows.site in units.sites, f"rows of '{source}' name the site '{rows.site}', which has no units")
    shape, expected = np.shape(rows.values), (len(rows.examples), len(units.at_sites([rows.site])))
    require(
        len(shape) == 3 and shape[:2] == expected,
        f"rows of '{source}' at {rows.site} have shape {shape}, not ({expected[0]}, {expected[1]}, ...)",
    )
    require(np.isfinite(rows.values).all(), f"'{source}' is NaN or infinite at {rows.site}")
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
        "call harness.data.contracts.check_sources(self, readers) in record",
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
                "call harness.data.contracts.check_gives(self, intervention) in evaluate",
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


# ----------------------------------------------------------------------------------------------------------------------
# Evaluations do not affect each other
# ----------------------------------------------------------------------------------------------------------------------


def evaluates_every_condition_on_every_example(plugin: Any) -> None:
    """Metrics get the logits, targets, counterfactual targets and baseline of every example, under each condition."""
    test = bench(plugin)
    group = test.pair
    conditions = [(), (group[0],), group, (group[0],), ()]
    batches = [test.batch]
    if isinstance(test.batch, Vectors) and isinstance(test.subject.reads, Width):
        outputs = np.random.default_rng(3).normal(size=(len(test.batch), test.subject.reads.outputs))
        batches.append(dataclasses.replace(test.batch, target=outputs.astype(np.float32), counterfactual=None))
    for batch in batches:
        metrics = [Look(0), Look(0, baseline=True), Target()]
        values = test.evaluate(conditions, Push(max(test.sizes.values())), batch, metrics=metrics)
        require(np.isfinite(values).all(), "values are NaN or infinite")
        sums = batch.target if batch.target.ndim == 1 else batch.target.sum(axis=1)
        require(
            np.allclose(values[:, 2], sums, atol=1e-4),
            "metrics do not get the target of their example: take targets and logits in the same order",
        )
        require(
            test.same(values[:, 1], values[0, 0]),
            "metrics do not get the logits of the baseline: give Prediction(..., baseline) those of the same examples",
        )
    values = test.evaluate(conditions, Output(), metrics=[Target(counterfactual=True)])
    require(
        np.allclose(values[:, 0], test.batch.counterfactual_batch.target),
        "metrics do not get the target of their example's counterfactual",
    )


def evaluates_conditions_independently(plugin: Any) -> None:
    """Conditions together, alone, in any order and twice have the same values."""
    test = bench(plugin)
    first, last = (test.units[0],), (test.units[-1],)
    conditions = [first, (), test.pair, last, first]
    for probe in _changing(test):
        together = test.evaluate(conditions, probe)
        backwards = test.evaluate(conditions[::-1], probe)[::-1]
        alone = np.concatenate([test.evaluate([condition], probe) for condition in conditions])
        require(
            test.same(together, backwards) and test.same(together, alone),
            "a condition has other values in the company of others: start every condition from the baseline, and "
            "ablate its units in its own rows only",
        )


def _changing(test: Bench) -> Iterator[Intervention]:
    """Interventions with clear effects."""
    size = max(test.sizes.values())
    yield Push(size)
    if "noise" in test.subject.gives:
        yield Noise(size)


def has_one_baseline(plugin: Any) -> None:
    """The baseline does not depend on the intervention, on other conditions or on evaluations before it."""
    test = bench(plugin)
    for intervention in (Output(0.0), *_changing(test)):
        for conditions in ([()], [(test.units[0],), (), test.pair]):
            values = test.evaluate(conditions, intervention)[conditions.index(())]
            require(
                test.same(values, test.baseline),
                "the baseline changes with the intervention or after an evaluation: remove all hooks, and do not "
                "touch its rows",
            )


def evaluates_examples_independently(plugin: Any) -> None:
    """Examples together, alone and in another order have the same values."""
    test = bench(plugin)
    conditions, probe = [(), (test.units[0],), test.pair], Push(max(test.sizes.values()))
    whole = test.evaluate(conditions, probe)
    order = np.random.default_rng(0).permutation(len(test.batch))
    permuted = test.evaluate(conditions, probe, test.batch.take(order))
    alone = [test.evaluate(conditions, probe, test.batch.take(np.array([e]))) for e in range(len(test.batch))]
    require(
        test.same(whole[..., order], permuted) and test.same(whole, np.concatenate(alone, axis=2)),
        "an example has other values in the company of others: treat the rows of a pass independently",
    )


def does_not_see_past_the_query(plugin: Any) -> None:
    """Tokens after the query have no effect."""
    test = bench(plugin)
    if not isinstance(test.batch, Tokens):
        raise NotChecked("it does not read sequences")
    later = np.arange(test.batch.tokens.shape[1]) > test.batch.query[:, None]
    other = dataclasses.replace(test.batch, tokens=np.where(later, 1, test.batch.tokens))
    conditions = [(), (test.units[0],), test.pair]
    values = [test.evaluate(conditions, Push(test.sizes[test.units[0]]), batch) for batch in (test.batch, other)]
    require(test.same(*values), "tokens after the query change the values: cut the sequence at the query")
    for source in test.subject.sources:
        readings = [test.record(batch, source)[1].readings["signal"] for batch in (test.batch, other)]
        size = max(1e-6, float(np.abs(readings[0]).max()))
        require(
            np.abs(readings[0] - readings[1]).max() <= 1e-3 * size,
            f"tokens after the query change '{source}': cut the sequence at the query",
        )


def gives_the_same_values_twice(plugin: Any) -> None:
    """Two calls agree, whatever the global random state is."""
    test = bench(plugin)
    source = next(iter(test.subject.sources))
    for probe in _changing(test):
        values, readings = [], []
        for seed in (1, 2):
            with global_seed(seed):
                values.append(test.evaluate([(), (test.units[0],)], probe))
                readings.append(test.record(test.batch, source)[1].readings["signal"])
        require(
            test.same(*values) and _close(*readings),
            "two calls with the same input differ: switch dropout off (model.eval()), and draw from seeds of your own",
        )


def leaves_the_model_as_it_was(plugin: Any) -> None:
    """Weights, hooks, gradients and training mode are the same after every call, also after one that fails."""
    test = bench(plugin)
    model = test.subject.model
    modules = list(model.modules()) if isinstance(model, nn.Module) else []
    with _training(modules):
        before = _state(modules)
        for call in (
            lambda: [test.record(test.batch, source) for source in test.subject.sources],
            lambda: test.evaluate([(), (test.units[0],), test.pair], Push(1.0)),
            lambda: _failing(test),
        ):
            call()
            for part, value in _state(modules).items():
                require(value == before[part], f"a call changes {part}: restore {part} in a `finally`")
            require(torch.is_grad_enabled(), "a call switches gradients off: use `with torch.inference_mode():`")


def _failing(test: Bench) -> None:
    try:
        test.evaluate([(test.units[0],)], Broken())
    except ArithmeticError:
        return
    raise Violation("an exception of the intervention is lost: let it through")


@contextmanager
def _training(modules: list[nn.Module]) -> Iterator[None]:
    """Every second module in training mode."""
    modes = [module.training for module in modules]
    for place, module in enumerate(modules):
        module.training = place % 2 == 0
    try:
        yield
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode


def _state(modules: list[nn.Module]) -> dict[str, Any]:
    whole = modules[:1]
    tensors = [tensor for module in whole for tensor in (*module.parameters(), *module.buffers())]
    return {
        "the weights": [
            zlib.crc32(t.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()) for t in tensors
        ],
        "the hooks of the model": [
            (len(module._forward_hooks), len(module._forward_pre_hooks), len(module._backward_hooks))
            for module in modules
        ],
        "the training mode": [module.training for module in modules],
        "which parameters have gradients": [(t.requires_grad, t.grad is None) for t in tensors],
    }


SUBJECT: tuple[Check, ...] = (
    loads_and_names_its_units,
    records_every_source,
    records_attention_weights,
    refuses_a_source_that_it_does_not_have,
    refuses_a_batch_that_it_cannot_read,
    refuses_an_intervention_that_asks_for_more_than_it_gives,
    refuses_groups_that_cannot_be_ablated_together,
    evaluates_every_condition_on_every_example,
    evaluates_conditions_independently,
    has_one_baseline,
    evaluates_examples_independently,
    does_not_see_past_the_query,
    gives_the_same_values_twice,
    leaves_the_model_as_it_was,
)
