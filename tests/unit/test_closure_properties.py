"""Invariances of a closure test in planted worlds: the order of examples, of members, of candidates."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.closure.cases import cases_of
from harness.closure.report import ClosureReport, close
from harness.closure.trial import Trial
from harness.data.batch import Batch
from harness.registry.config import registry
from harness.registry.registry import Registry


@cache
def offered() -> Registry:
    return registry()


@cache
def world() -> tuple[Any, Batch]:
    subject = offered().get("subject", "planted").build({"layers": 6, "width": 8, "group_size": 2})()
    return subject, offered().get("batch", "planted").build({"n": 24})(subject.reads)


def reports_on(batch: Batch, *candidates: tuple[int, ...]) -> list[ClosureReport]:
    subject, _ = world()
    metrics = [offered().get("metric", name).build({}) for name in ("target_logit", "accuracy", "loss")]
    zero, controls = offered().get("intervention", "zero").build({}), offered().get("controls", "layer_matched")
    trial = Trial(subject.units, subject.evaluate, batch, zero, controls.build({"n": 19}), metrics, futility=None)
    return [found.report for found in close(cases_of(candidates, trial), trial, lambda _: None)]


@given(st.permutations(range(24)), st.sets(st.integers(0, 47), min_size=1, max_size=4))
@settings(max_examples=15)
def test_the_order_of_examples_changes_no_effect(order: list[int], group: set[int]) -> None:
    _, batch = world()
    (straight,) = reports_on(batch, tuple(sorted(group)))
    (shuffled,) = reports_on(batch.take(np.array(order)), tuple(sorted(group)))
    for name, effect in straight.effects.items():
        other = shuffled.effects[name]
        assert other.delta == pytest.approx(effect.delta, abs=1e-9)
        assert other.controls == pytest.approx(effect.controls, abs=1e-9)
    assert shuffled.n_controls == straight.n_controls


@given(st.permutations([3, 12, 21, 30]))
@settings(max_examples=10)
def test_the_order_of_members_changes_no_effect_and_permutes_their_shares(order: list[int]) -> None:
    _, batch = world()
    (straight,), (other,) = reports_on(batch, (3, 12, 21, 30)), reports_on(batch, tuple(order))
    for name, effect in straight.effects.items():
        assert other.effects[name].delta == pytest.approx(effect.delta, abs=1e-9)
        assert other.effects[name].p == effect.p
        first, second = straight.anatomy[name].leave_one_out, other.anatomy[name].leave_one_out
        if first is not None and second is not None:
            lost = dict(zip((3, 12, 21, 30), first, strict=True))
            assert second == pytest.approx([lost[unit] for unit in order], abs=1e-9)


def test_candidates_do_not_disturb_each_other() -> None:
    """Only the corrected p depends on candidates that come later or have another size."""
    _, batch = world()
    alone = reports_on(batch, (3, 12))[0]
    _, together, _ = reports_on(batch, (20, 21, 22), (3, 12), (30, 31))
    for name, effect in alone.effects.items():
        other = together.effects[name]
        assert (other.delta, other.p, other.controls) == (effect.delta, effect.p, effect.controls)
        assert effect.p_adjusted is None or (other.p_adjusted or 0) >= effect.p_adjusted


def test_ablating_nothing_changes_nothing() -> None:
    subject, batch = world()
    metrics = [offered().get("metric", "target_logit").build({})]
    zero = offered().get("intervention", "zero").build({})
    values = subject.evaluate(batch, [(), (5,), ()], zero, metrics, lambda _: None)
    np.testing.assert_array_equal(values[:, 0], values[:, 2])
    assert (values[:, 0] != values[:, 1]).any()
