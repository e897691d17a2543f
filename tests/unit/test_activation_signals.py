"""Signals of any units: activation, usage and attribution, against closed forms, forward passes and ablation."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from harness.data.batch import Width
from harness.data.contracts import Subject, reads
from harness.data.recording import Activity, Rows
from harness.data.tokens import Tokens
from harness.data.units import Unit, UnitSpace
from harness.data.vectors import Vectors
from harness.engine.hooked import HookedSubject
from harness.engine.sites import Columns, Features, Whole, module_at
from harness.engine.subject import HeadSubject, vocabulary_of
from harness.registry.config import registry
from harness.registry.registry import Registry
from harness.util.errors import HarnessError
from harness.util.fingerprint import identity


@cache
def offered() -> Registry:
    return registry()


def build(name: str, stage: str = "signal", **parameters: Any) -> Any:
    return offered().get(stage, name).build(parameters)


VALUES = np.array([[[3.0, -4.0], [0.0, 0.0]], [[1.0, 5.0], [-2.0, 0.0]]], dtype=np.float32)
BATCH = Vectors("two", np.eye(2, dtype=np.float32), np.zeros(2, dtype=np.int64), "class")


def read(signal: Any, values: np.ndarray = VALUES) -> Any:
    return signal.read(Rows(signal.source, "site", values, BATCH, BATCH, np.arange(2)))


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({}, [[5, 0], [26**0.5, 2]]),
        ({"reduce": "norm"}, [[5, 0], [26**0.5, 2]]),
        ({"reduce": "mean"}, [[-0.5, 0], [3, -1]]),
    ],
)
def test_activation_of_wide_units_is_one_number(parameters: dict[str, Any], expected: list[list[float]]) -> None:
    np.testing.assert_allclose(read(build("activation", **parameters)), expected, rtol=1e-6)


@pytest.mark.parametrize("reduce", ["auto", "value", "mean"])
def test_activation_of_single_numbers_is_their_value(reduce: str) -> None:
    np.testing.assert_array_equal(read(build("activation", reduce=reduce), VALUES[:, :, :1]), VALUES[:, :, 0])


def test_the_value_of_a_wide_unit_is_refused() -> None:
    with pytest.raises(HarnessError, match=r"reduce=value: units of site have 2 numbers each") as caught:
        read(build("activation", reduce="value"))
    assert "signal.reduce=norm" in str(caught.value)


@pytest.mark.parametrize(("threshold", "expected"), [(0.0, [[1, 0], [1, 1]]), (2.0, [[1, 0], [1, 0]])])
def test_usage_is_whether_the_norm_is_above_the_threshold(threshold: float, expected: list[list[int]]) -> None:
    np.testing.assert_array_equal(read(build("usage", threshold=threshold)), expected)


# -- on subjects -------------------------------------------------------------------------------------------------------


def classifier() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 6), nn.Tanh(), nn.Linear(6, 4)).eval()


def neurons(model: nn.Sequential) -> HookedSubject:
    sites = [
        Features("relu", 0, [f"r{i}" for i in range(7)], model[1]),
        Features("tanh", 1, [f"t{i}" for i in range(6)], model[3]),
        Whole("second", 1, ["whole"], model[2]),
    ]
    return HookedSubject(model, sites, Width(5, 4), "classifier")


def vectors(n: int = 20) -> Vectors:
    rng = np.random.default_rng(3)
    return Vectors("made", rng.normal(size=(n, 5)).astype(np.float32), rng.integers(0, 4, n), "class")


def activity_of(subject: Subject, batch: Any, signal: Any) -> Activity:
    activity: Activity = signal(subject.record(batch, {"signal": signal}, lambda _: None))
    return activity


def test_activation_and_usage_of_neurons_are_those_of_a_forward_pass() -> None:
    model, batch = classifier(), vectors()
    with torch.no_grad():
        inputs = torch.from_numpy(batch.inputs)
        relu, linear, tanh = model[:2](inputs), model[:3](inputs), model[:4](inputs)
    expected = torch.cat([relu, tanh, linear.norm(dim=1, keepdim=True)], dim=1).numpy()
    subject = neurons(classifier())
    np.testing.assert_allclose(activity_of(subject, batch, build("activation")).values, expected, atol=1e-6)
    used = activity_of(subject, batch, build("usage"))
    np.testing.assert_array_equal(used.values, expected != 0)
    np.testing.assert_allclose(used.scores.values, (expected != 0).mean(axis=0), atol=1e-6)
    assert 0 < used.scores.values[:7].mean() < 1


def test_what_a_head_hands_on_is_its_activation(architectures: Mapping[str, Any]) -> None:
    subject, batch = HeadSubject(architectures["llama_gqa"].build(), "heads"), tokens()
    by_name, outputs = build("activation"), build("activation", source="head_output")
    found = subject.record(batch, {"a": by_name, "o": outputs}).readings
    np.testing.assert_array_equal(found["a"], found["o"])


def test_a_source_that_the_subject_does_not_have_is_a_sentence() -> None:
    with pytest.raises(HarnessError, match="signal reads 'router', which subject classifier does not have") as caught:
        activity_of(neurons(classifier()), vectors(), build("activation", source="router"))
    assert "It has: activation, first_order." in str(caught.value)


def test_a_source_is_a_parameter_that_is_part_of_the_identity_of_a_reading() -> None:
    first, second = build("activation"), build("activation", source="head_output")
    assert reads(first)
    assert reads(second)
    assert (first.source, second.source) == ("activation", "head_output")
    assert identity(first) != identity(second)


def tokens() -> Tokens:
    rng = np.random.default_rng(0)
    return Tokens("made", rng.integers(3, 48, (4, 9)), np.array([8, 5, 7, 8]), rng.integers(3, 48, 4), {}, "successor")


MLP = "model.layers.{}.mlp"
SITES = {
    "neurons": lambda model: [
        Columns(f"mlp{i}", i, [f"{i}N{j}" for j in range(48)], module_at(model, MLP.format(i) + ".down_proj"))
        for i in range(4)
    ],
    "mlp layers": lambda model: [Whole(f"mlp{i}", i, [f"mlp{i}"], module_at(model, MLP.format(i))) for i in range(4)],
    "kv groups": lambda model: [
        Columns(f"kv{i}", i, [f"{i}K0", f"{i}K1"], module_at(model, f"model.layers.{i}.self_attn.o_proj"))
        for i in range(4)
    ],
}


@pytest.mark.parametrize("family", ["heads", *SITES])
def test_attribution_is_the_slope_of_the_target_logit_as_the_unit_is_scaled(
    family: str, architectures: Mapping[str, Any]
) -> None:
    """A central difference of the logit by the factor, at the baseline."""
    model, step = architectures["llama_gqa"].build().double(), 2e-3
    subject = (
        HeadSubject(model, family)
        if family == "heads"
        else HookedSubject(model, SITES[family](model), vocabulary_of(model), family)
    )
    units = [0, 1, len(subject.units) - 1]
    groups, logit = [(unit,) for unit in units], [build("target_logit", "metric")]
    above, below = (
        subject.evaluate(tokens(), groups, build("scale", "intervention", factor=factor), logit)[0]
        for factor in (1 + step, 1 - step)
    )
    slope = ((above - below) / (2 * step)).T
    found = activity_of(subject, tokens(), build("attribution")).values[:, units]
    np.testing.assert_allclose(found, slope, atol=5e-3 * np.abs(slope).max())  # metrics are in float32


# -- units that no clustering can place --------------------------------------------------------------------------------


def test_dead_units_units_that_are_always_on_and_aliases_are_named() -> None:
    varying = np.arange(5.0)
    columns = {"a": varying, "off": 0 * varying, "b": -varying, "on": 1 + 0 * varying, "a2": varying, "a3": varying}
    units = UnitSpace(tuple(Unit(label, "site", 0) for label in columns))
    activity = Activity(np.stack(list(columns.values()), axis=1), units)
    assert activity.diagnostics == {"dead": ["off"], "always_on": ["on"], "aliases": {"a2": "a", "a3": "a"}}
    assert Activity(activity.values[:, [0, 2]], UnitSpace(units.units[:1] + units.units[2:3])).diagnostics == {}


def test_aliases_are_found_among_many_units() -> None:
    values = np.random.default_rng(0).normal(size=(8, 5000))
    values[:, 4999] = values[:, 3]
    units = UnitSpace(tuple(Unit(f"u{i}", "site", 0) for i in range(5000)))
    assert Activity(values, units).diagnostics == {"aliases": {"u4999": "u3"}}
