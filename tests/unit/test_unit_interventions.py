"""Interventions on any units, against hooks written by hand one condition at a time, and against theory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from harness.data.batch import Counterfactual, Width
from harness.data.contracts import Intervention, Subject
from harness.data.tokens import Tokens
from harness.data.vectors import Vectors
from harness.engine.hooked import HookedSubject
from harness.engine.replacement import noise_of
from harness.engine.sites import Columns, Features, module_at
from harness.engine.subject import HeadSubject, vocabulary_of
from harness.registry.config import registry
from harness.registry.registry import Registry
from harness.util.errors import HarnessError

KINDS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("zero", {}),
    ("scale", {"factor": -2.0}),
    ("clamp", {"low": -0.2, "high": 0.1}),
    ("clamp", {"low": 0.7, "high": 0.7}),
    ("mean", {}),
    ("resample", {}),
    ("patching", {}),
    ("noise", {"seed": 5}),
    ("noise", {"per": "position", "over": "batch"}),
    ("noise", {"center": "output", "scale": 3.0}),
)
LAYERS = 4
Written = Mapping[int, torch.Tensor]
"""By layer, what its units hand on in one example [positions, units, width]."""


@cache
def offered() -> Registry:
    return registry()


def build(name: str, **parameters: Any) -> Any:
    return offered().get("intervention", name).build(parameters)


def tokens(seed: int, query: Sequence[int]) -> Tokens:
    """Random tokens; most examples have tokens after the query."""
    rng = np.random.default_rng(seed)
    ids, others = rng.integers(3, 48, (2, len(query), 11))
    target, answer = rng.integers(3, 48, (2, len(query)))
    return Tokens("made", ids, np.array(query), target, {}, "successor", counterfactual=Counterfactual(others, answer))


BATCH, REFERENCE = tokens(1, [9, 5, 7]), tokens(2, [10, 6])


# -- a family: a subject, and the linear modules whose inputs its units are --------------------------------------------


@dataclass(frozen=True)
class Family:
    """``path``: of the modules, by layer; ``units``: blocks of each module's input."""

    subject: Callable[[nn.Module, str], Subject]
    path: Mapping[str, str]
    units: int

    def on(self, architecture: Any, name: str) -> Subject:
        return self.subject(architecture.build(), self.path[name])


def columns(units: int) -> Callable[[nn.Module, str], Subject]:
    """Equal blocks of the input of these modules."""

    def subject(model: nn.Module, path: str) -> Subject:
        sites = [
            Columns(f"S{layer}", layer, [f"S{layer}U{i}" for i in range(units)], module_at(model, path.format(layer)))
            for layer in range(LAYERS)
        ]
        return HookedSubject(model, sites, vocabulary_of(model), "hooked")

    return subject


PROJECTIONS = {
    "gpt2": "transformer.h.{}.attn.c_proj",
    "llama_gqa": "model.layers.{}.self_attn.o_proj",
    "gpt_neox": "gpt_neox.layers.{}.attention.dense",
}
MLPS = {
    "gpt2": "transformer.h.{}.mlp.c_proj",
    "llama_gqa": "model.layers.{}.mlp.down_proj",
    "gpt_neox": "gpt_neox.layers.{}.mlp.dense_4h_to_h",
}
FAMILIES = {
    "heads": Family(lambda model, _: HeadSubject(model, "heads"), PROJECTIONS, 4),
    "pairs of heads": Family(columns(2), PROJECTIONS, 2),
    "blocks of neurons": Family(columns(16), MLPS, 16),
}


# -- the reference -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ByHand:
    """One eager forward pass per example and condition, with a hook on the input of every module."""

    architecture: Any
    path: str
    units: int

    def run(self, ids: np.ndarray, hook: Callable[[int, torch.Tensor], torch.Tensor]) -> np.ndarray:
        """The logits of the last position, where ``hook`` replaces [positions, units, width] of every layer."""
        model = self.architecture.eager

        def on(layer: int) -> Any:
            def enter(_: Any, args: Any) -> Any:
                blocks = args[0].reshape(args[0].shape[-2], self.units, -1)
                return (hook(layer, blocks).reshape(args[0].shape), *args[1:])

            return model.get_submodule(self.path.format(layer)).register_forward_pre_hook(enter)

        handles = [on(layer) for layer in range(LAYERS)]
        try:
            with torch.no_grad():
                logits: np.ndarray = model(torch.from_numpy(ids[None]), use_cache=False).logits[0, -1].numpy()
                return logits
        finally:
            for handle in handles:
                handle.remove()

    @cache  # noqa: B019  # a few objects, for as long as the tests run
    def written(self, batch: Tokens) -> list[Written]:
        """What the units hand on in every example, without ablation."""
        found: list[dict[int, torch.Tensor]] = []
        for ids in texts(batch):
            found.append({})

            def keep(layer: int, blocks: torch.Tensor) -> torch.Tensor:
                found[-1][layer] = blocks.clone()
                return blocks

            self.run(ids, keep)
        return found

    def ablated(self, subject: Subject, group: Sequence[int], method: Any, query_only: bool) -> np.ndarray:
        """The logits of every example with these units ablated [vocabulary, examples]."""
        donors = self.written(method.donors(BATCH)) if method.name in ("resample", "patching") else None
        over = self.written(BATCH if method.over == "batch" else REFERENCE)
        logits = []
        for example, ids in enumerate(texts(BATCH)):

            def replaced(layer: int, blocks: torch.Tensor, example: int = example) -> torch.Tensor:
                blocks = blocks.clone()
                at = [len(blocks) - 1] if query_only else range(len(blocks))
                for unit in (u for u in group if subject.units.depth_of[u] == layer):
                    place = unit - int((subject.units.depth_of < layer).sum())
                    label = subject.units.labels[unit]
                    noise = noise_of(method.seed, [label], np.array([example]), len(blocks), blocks.shape[2])[0, :, 0]
                    for t in at:
                        donor = donors[example][layer][t, place] if donors else None
                        seen = [w[layer][t if method.per == "position" else slice(None), place] for w in over
                                if method.per == "all" or len(w[layer]) > t]  # fmt: skip
                        seen = torch.cat([s.reshape(-1, blocks.shape[2]) for s in seen])
                        blocks[t, place] = new_output(method, blocks[t, place], donor, seen, noise[t])
                return blocks

            logits.append(self.run(ids, replaced))
        return np.stack(logits, axis=1)


def texts(batch: Tokens) -> list[np.ndarray]:
    return [ids[: query + 1] for ids, query in zip(batch.tokens, batch.query, strict=True)]


def new_output(method: Any, output: torch.Tensor, donor: Any, seen: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """What a unit hands on, by definition; ``seen`` [observations, width] are its outputs without ablation."""
    mean, std = seen.double().mean(dim=0), seen.double().std(dim=0, correction=0)
    match method.name:
        case "zero":
            return torch.zeros_like(output)
        case "mean":
            return mean.float()
        case "resample" | "patching":
            return donor
        case "scale":
            return method.factor * output
        case "clamp":
            return torch.minimum(torch.maximum(output, torch.tensor(method.low)), torch.tensor(method.high))
    center = mean if method.center == "mean" else output
    return (center + method.scale * std * noise).float()


@pytest.mark.parametrize("positions", ["all", "query"])
@pytest.mark.parametrize(("name", "parameters"), KINDS)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("model", PROJECTIONS)
def test_interventions_are_those_of_hooks_written_by_hand(
    model: str,
    family: str,
    name: str,
    parameters: dict[str, Any],
    positions: str,
    architectures: Mapping[str, Any],
    every_logit: Any,
) -> None:
    kind = FAMILIES[family]
    subject = kind.on(architectures[model], model)
    method = build(name, **parameters, positions=positions)
    last = len(subject.units) - 1
    groups = [(1, last), (kind.units, kind.units + 1, 2 * kind.units)]
    found = subject.evaluate(BATCH, [(), *groups], method, every_logit, lambda _: None, REFERENCE)
    by_hand = ByHand(architectures[model], kind.path[model], kind.units)
    for row, group in enumerate(groups, start=1):
        expected = by_hand.ablated(subject, group, method, positions == "query")
        np.testing.assert_allclose(found[:, row], expected, atol=2e-4 * np.abs(expected).max())
        assert np.abs(found[:, row] - found[:, 0]).max() > 1e-3


# -- vectors -----------------------------------------------------------------------------------------------------------


def vectors(n: int, seed: int = 3) -> Vectors:
    rng = np.random.default_rng(seed)
    inputs, others = rng.normal(size=(2, n, 5)).astype(np.float32)
    target, answer = rng.integers(0, 4, (2, n))
    return Vectors("made", inputs, target, "class", counterfactual=Counterfactual(others, answer))


def classifier() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 6), nn.Tanh(), nn.Linear(6, 4)).eval()


def neurons(model: nn.Sequential, memory: str = "auto") -> HookedSubject:
    sites = [
        Features(f"layer{depth}", depth, [f"{depth}.{i}" for i in range(width)], model[place])
        for depth, (place, width) in enumerate([(1, 7), (3, 6)])
    ]
    return HookedSubject(model, sites, Width(5, 4), "classifier", memory=memory)


@pytest.mark.parametrize("positions", ["all", "query"])
@pytest.mark.parametrize(("name", "parameters"), KINDS)
def test_interventions_on_vectors_are_those_of_the_layers_computed_one_by_one(
    name: str, parameters: dict[str, Any], positions: str, every_logit: Any
) -> None:
    model, batch, reference = classifier(), vectors(6), vectors(9, seed=4)
    method = build(name, **parameters, positions=positions)
    group = (0, 3, 8, 12)
    with torch.no_grad():
        over = torch.from_numpy((batch if method.over == "batch" else reference).inputs)
        seen = [model[:2](over), model[:4](over)]
        donors = [model[:2](donor), model[:4](donor)] if (donor := donor_inputs(method, batch)) is not None else None
        hidden = torch.from_numpy(batch.inputs)
        for depth, (start, stop) in enumerate([(0, 2), (2, 4)]):
            hidden = model[start:stop](hidden)
            for place in (unit - 7 * depth for unit in group if (unit >= 7) == bool(depth)):
                noise = noise_of(method.seed, [f"{depth}.{place}"], np.arange(6), 1, 1)[:, 0, 0]
                at = donors[depth][:, place, None] if donors else None
                values = seen[depth][:, place, None]
                replaced = new_output(method, hidden[:, place, None], at, values, noise)
                hidden[:, place] = replaced.expand(6, 1)[:, 0]
        expected = model[4](hidden).numpy().T
    found = neurons(classifier()).evaluate(batch, [group], method, every_logit[:4], reference=reference)
    np.testing.assert_allclose(found[:, 0], expected, atol=1e-5)


def donor_inputs(method: Intervention, batch: Vectors) -> torch.Tensor | None:
    if method.name not in ("resample", "patching"):
        return None
    inputs = method.donors(batch).inputs
    return torch.from_numpy(inputs)


# -- scale, clamp: limits ----------------------------------------------------------------------------------------------


def test_a_factor_of_zero_is_zero_ablation_and_one_is_the_baseline(every_logit: Any) -> None:
    subject, batch = neurons(classifier()), vectors(6)
    conditions = [(), (0, 3), (8,)]

    def values(name: str, **parameters: Any) -> np.ndarray:
        return subject.evaluate(batch, conditions, build(name, **parameters), every_logit[:4])

    np.testing.assert_array_equal(values("scale", factor=0.0), values("zero"))
    np.testing.assert_array_equal(values("clamp"), values("zero"))
    baseline = values("scale", factor=1.0)
    np.testing.assert_allclose(baseline, np.repeat(baseline[:, :1], 3, axis=1), atol=1e-6)


@pytest.mark.parametrize(("low", "high", "kept"), [(None, 0.5, [-3.0, 0.5]), (0.5, None, [0.5, 2.0])])
def test_a_clamp_with_one_bound_leaves_the_other_side(low: float | None, high: float | None, kept: list[float]) -> None:
    assert build("clamp", low=low, high=high)(output=torch.tensor([-3.0, 2.0])).tolist() == kept


@pytest.mark.parametrize(
    ("low", "high", "message"),
    [(None, None, "are both null"), (2.0, 1.0, r"intervention\.low=2\.0 is above intervention\.high=1\.0")],
)
def test_bounds_that_clamp_nothing_or_everything_are_refused(
    low: float | None, high: float | None, message: str
) -> None:
    with pytest.raises(HarnessError, match=message):
        build("clamp", low=low, high=high)


# -- noise -------------------------------------------------------------------------------------------------------------


def linear(memory: str = "auto") -> HookedSubject:
    """The units are the outputs, so that metrics show what units hand on. Means 2, -1, 0 and deviations 1, 3, 0."""
    model = nn.Sequential(nn.Linear(2, 3))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 3.0], [0.0, 0.0]]))
        model[0].bias.copy_(torch.tensor([2.0, -1.0, 0.0]))
    return HookedSubject(model, [Features("out", 0, ["a", "b", "c"], model[0])], Width(2, 3), "linear", memory=memory)


def normal_vectors(n: int) -> Vectors:
    """Both inputs have mean 0 and variance 1 exactly, and are uncorrelated."""
    values = np.random.default_rng(0).normal(size=(n, 2))
    values -= values.mean(axis=0)
    values = np.linalg.qr(values)[0] * np.sqrt(n)
    return Vectors("normal", values.astype(np.float32), np.zeros(n, dtype=np.int64), "class")


@pytest.mark.parametrize(
    ("scale", "center", "spread"), [(1.0, "mean", 1.0), (2.0, "mean", 2.0), (1.0, "output", 2**0.5)]
)
def test_noise_has_the_mean_and_the_variance_of_the_output(
    scale: float, center: str, spread: float, every_logit: Any
) -> None:
    """Standard errors: the standard deviation / sqrt(n) for a mean, / sqrt(2n) for a standard deviation."""
    n, batch = 4000, normal_vectors(4000)
    method = build("noise", scale=scale, center=center)
    values = linear().evaluate(batch, [(0, 1, 2)], method, every_logit[:3])[:, 0]
    for unit, (mean, std) in enumerate([(2.0, 1.0), (-1.0, 3.0), (0.0, 0.0)]):
        assert values[unit].mean() == pytest.approx(mean, abs=4 * spread * std / n**0.5 + 1e-6)
        assert values[unit].std() == pytest.approx(spread * std, abs=4 * spread * std / (2 * n) ** 0.5 + 1e-6)
    output = batch.inputs[:, 0]
    expected = {"mean": 0.0, "output": 2**-0.5}[center]  # of two independent parts with equal variance
    assert np.corrcoef(values[0], output)[0, 1] == pytest.approx(expected, abs=4 / n**0.5)
    assert np.corrcoef(values[0], values[1])[0, 1] == pytest.approx(0, abs=4 / n**0.5)


def test_noise_is_the_same_in_every_condition_and_however_passes_are_divided(every_logit: Any) -> None:
    batch, groups = normal_vectors(50), [(0,), (0, 1), (0, 1, 2), (0, 2)]
    method = build("noise", over="batch")
    values = linear().evaluate(batch, groups, method, every_logit[:3])
    for other in range(1, 4):
        np.testing.assert_array_equal(values[0, 0], values[0, other])
    small = linear()
    small.budget = replace(small.budget, positions=9)  # three examples and two conditions at a time
    alone = np.stack([small.evaluate(batch, [group], method, every_logit[:3])[:, 0] for group in groups], axis=1)
    np.testing.assert_allclose(small.evaluate(batch, groups, method, every_logit[:3]), values, atol=1e-6)
    np.testing.assert_allclose(alone, values, atol=1e-6)


def test_noise_of_tokens_does_not_depend_on_how_passes_are_divided(
    architectures: Mapping[str, Any], every_logit: Any
) -> None:
    kind, model = FAMILIES["blocks of neurons"], "llama_gqa"
    whole, parts = kind.on(architectures[model], model), kind.on(architectures[model], model)
    parts.budget = replace(parts.budget, positions=25)  # type: ignore[attr-defined]
    groups, method = [(), (0, 17), (40, 41), (17,)], build("noise")
    found = [s.evaluate(BATCH, groups, method, every_logit, lambda _: None, REFERENCE) for s in (whole, parts)]
    np.testing.assert_allclose(found[0], found[1], atol=2e-4 * np.abs(found[0]).max())


def test_another_seed_is_other_noise(every_logit: Any) -> None:
    batch = normal_vectors(5)
    first, second = (
        linear().evaluate(batch, [(0,)], build("noise", over="batch", seed=seed), every_logit[:3]) for seed in (0, 1)
    )
    assert not np.isin(first[0], second[0]).any()
