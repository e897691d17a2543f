"""Checks that evaluations of a subject do not affect each other: conditions, examples, calls."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from harness.data.batch import Width
from harness.data.contracts import Intervention
from harness.data.tokens import Tokens
from harness.data.vectors import Vectors
from harness.testing.bench import Bench, bench
from harness.testing.checks import Check, NotChecked, Violation, global_seed, require
from harness.testing.probes import Broken, Look, Noise, Output, Push, Target


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
            test.same(*values) and np.allclose(readings[0], readings[1], rtol=1e-4, atol=1e-5),
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
    tensors = [tensor for model in modules[:1] for tensor in (*model.parameters(), *model.buffers())]
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


def _checksum(tensor: Tensor) -> int:
    return zlib.crc32(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())


ISOLATION: tuple[Check, ...] = (
    evaluates_every_condition_on_every_example,
    evaluates_conditions_independently,
    has_one_baseline,
    evaluates_examples_independently,
    does_not_see_past_the_query,
    gives_the_same_values_twice,
    leaves_the_model_as_it_was,
)
