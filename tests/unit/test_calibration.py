"""The harness against planted truth: verdicts without noise, p-values under the null, the paper's criteria."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from harness.calibration.calibrate import (
    PLANTED,
    WEAK,
    Calibration,
    Ruling,
    as_published,
    calibrate,
    in_world,
    put_to_test,
    rate,
    rulings_on,
)
from harness.calibration.questions import power
from harness.cells.cell import Cell
from harness.closure.statistics import Effect
from harness.closure.verdict import Verdict
from harness.records.record import Record
from harness.registry.config import registry, resolve
from harness.util.cache import Memo
from harness.util.errors import HarnessError

pytestmark = pytest.mark.unchecked

SMALL = ("batch.n=128", "controls.n=39")
SMALLER = ("batch.n=64", "controls.n=19", "subject.layers=6", "subject.width=16")


@cache
def cell(*words: str) -> Cell:
    return Cell.of(resolve([*PLANTED, *words], registry()), registry())


@pytest.mark.parametrize("world", [0, 1, 2])
def test_every_kind_gets_its_expected_verdict_without_noise(world: int) -> None:
    found = list(rulings_on("kinds", "default", in_world(cell(*SMALL), world, noise=0.0), world, Memo()))
    assert len(found) == 11  # ten kinds, one of them with two groups
    assert [(r.kind, r.verdict) for r in found if not r.expected] == []


@pytest.mark.parametrize("intervention", ["mean", "resample", "patching"])
def test_circuits_pass_and_bystanders_fail_under_every_intervention(intervention: str) -> None:
    planted = in_world(cell(*SMALL, f"intervention={intervention}"), 1, noise=0.0)
    found = rulings_on("kinds", "default", planted, 1, Memo(), ("serial", "parallel", "redundant_pair", "bystander"))
    assert [(r.kind, r.verdict) for r in found if not r.expected] == []


def null_p_values(worlds: int, size: int, width: int) -> np.ndarray:
    """p-values of decoys, which are drawn as their controls are; uniformly spread between the possible steps of p."""
    fixed = ("batch.n=8", "controls.n=39", "metric=[target_logit]", "subject.layers=6", "subject.answers=4")
    planted = cell(*fixed, f"subject.group_size={size}", f"subject.width={width}")
    found = []
    for world in range(worlds):
        here = in_world(planted, world)
        for kind in ("early", "late"):
            effect = put_to_test(here, here.stages["subject"]().groups[kind][0], Memo()).effects["target_logit"]
            assert effect.p is not None
            found.append(effect.p - np.random.default_rng([world, len(kind)]).random() / (1 + len(effect.controls)))
    return np.array(found)


@pytest.mark.slow  # 120 tests of 39 groups
def test_p_values_are_uniform_for_groups_drawn_as_their_controls() -> None:
    from scipy.stats import kstest

    assert kstest(null_p_values(60, size=2, width=64), "uniform").pvalue > 0.01


@pytest.mark.slow  # 160 tests of 39 groups
def test_the_test_holds_its_level_if_the_group_is_a_third_of_its_layer() -> None:
    found = null_p_values(80, size=4, width=12)
    assert (found <= 0.05).mean() <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 160)


def test_a_calibration_is_complete_and_reproducible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "harness.calibration.calibrate.METHODS", {"the truth itself": ("affinity=pearson", "partitioner=oracle")}
    )
    monkeypatch.setattr("harness.calibration.calibrate.EFFECTS", (WEAK,))
    monkeypatch.setattr(
        "harness.calibration.calibrate.QUESTIONS", {"power": lambda n, stages, _: power(n, stages, (8,))}
    )
    first, second = (calibrate(1, SMALLER, registry(), lambda _: None) for _ in range(2))
    assert first == second
    assert {ruling.protocol for ruling in first.rulings} == {"default", "disjoint", "paper"}
    assert first.noises == (0.0, 0.05)
    assert {ruling.effect for ruling in first.by_effect("default")} == {WEAK, 2.0}
    assert {ruling.controls for ruling in first.by_controls()} == {19, 39}
    assert {ruling.kind for ruling in first.of(part="the truth itself")} == {"circuit"}  # it says which classes are
    assert {(share.question, share.heads, share.method) for share in first.shares} == {
        ("power", 8, "exact"),
        ("power", 8, "disjoint"),
    }


def test_subjects_without_planted_circuits_and_zero_worlds_are_refused() -> None:
    with pytest.raises(HarnessError, match="calibrate needs a subject with planted groups, and tiny has none"):
        calibrate(1, ("subject=tiny",), registry(), lambda _: None)
    with pytest.raises(HarnessError, match="worlds=0: at least one world is needed"):
        calibrate(0, (), registry(), lambda _: None)


# ----------------------------------------------------------------------------------------------------------------------
# The paper's criteria, on figures of its own and made ones
# ----------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def verdict(make_record: Callable[..., Record], make_effect: Callable[..., Effect]) -> Callable[..., Verdict]:
    """The paper's verdict on changes of loss, accuracy and target logit, against loss (and flat other) controls."""

    def judge(loss: float, accuracy: float, logit: float, controls: tuple[float, ...]) -> Verdict:
        deltas = {"loss": (loss, 1), "accuracy": (accuracy, -1), "target_logit": (logit, -1)}
        effects = {}
        for name, (delta, sign) in deltas.items():
            against = controls if name == "loss" else (10.0, -10.0)
            effects[name] = make_effect(delta=delta, damage=sign, controls=against)
        report = replace(make_record().closure[0], effects=effects)
        return as_published(report)

    return judge


SPREAD = (0.0, 0.2)  # mean 0.1, deviation (ddof 0) 0.1


@pytest.mark.parametrize(
    ("loss", "accuracy", "logit", "controls", "expected"),
    [
        (0.29, -0.1, -1.0, SPREAD, Verdict.PASS),  # z = 1.9
        (0.27, -0.1, -1.0, SPREAD, Verdict.NOT_SPECIFIC),  # z = 1.7: below their floor of 1.8
        (0.5, -0.1, -1.0, (*[0.0] * 9, 0.6), Verdict.NOT_SPECIFIC),  # z = 2.4, but one control does as much
        (-0.3, -0.1, -1.0, SPREAD, Verdict.WRONG_DIRECTION),  # their OLMoE community: loss falls
        (0.5, 0.1, -1.0, SPREAD, Verdict.WRONG_DIRECTION),
        (0.0, 0.0, 0.0, SPREAD, Verdict.NULL),
        (1.853, -0.0075, -1.571, (1.655, 1.2, 0.3, 0.25, -0.42), Verdict.NOT_SPECIFIC),  # loss alone: z = 1.7
    ],
)
def test_the_papers_criteria(
    verdict: Callable[..., Verdict],
    loss: float,
    accuracy: float,
    logit: float,
    controls: tuple[float, ...],
    expected: Verdict,
) -> None:
    assert verdict(loss, accuracy, logit, controls) is expected


def test_a_rate_comes_with_its_wilson_interval() -> None:
    usual: dict[str, Any] = {"part": "kinds", "protocol": "default", "world": 0, "noise": 0.0, "effect": 2.0}
    rulings = [
        Ruling(**usual, controls=99, kind="early", verdict=v, expected=None) for v in ("pass", "weak_pass", "null")
    ]
    passed, n, low, high = rate(rulings)
    assert (passed, n) == (2, 3)
    # Wilson 1927 by hand: (p + z^2/2n -+ z sqrt(pq/n + z^2/4n^2)) / (1 + z^2/n), p = 2/3, n = 3, z = 1.96
    np.testing.assert_allclose((low, high), (0.2077, 0.9385), atol=1e-4)


def test_circuits_are_the_kinds_expected_to_pass() -> None:
    calibration = Calibration((), registry().get("subject", "planted").build({})().expected)
    assert calibration.circuits == ("serial", "parallel", "redundant_pair", "routed")
    assert calibration.decoys == ("redundant_half", "cancelling", "bystander", "position", "early", "late")
