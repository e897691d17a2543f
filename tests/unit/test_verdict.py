"""The verdict: every rule is reached, direction comes before specificity, and only metrics that decide count."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.closure.statistics import Effect
from harness.closure.verdict import RULES, Verdict, decide, decision_order

Make = Callable[..., Effect]
METRICS = ("target_logit", "accuracy", "loss")
DAMAGE = {"target_logit": -1, "accuracy": -1, "loss": 1}

# What a metric shows, as (interval, corrected p); damage points to +1 here.
BEATS = ((0.5, 1.5), 0.03)
HARMED = ((0.5, 1.5), 0.4)
NOTHING = ((-0.5, 0.5), 0.4)
HELPED = ((-1.5, -0.5), 1.0)
DOUBTFUL = ((-0.5, 1.5), 0.03)  # beyond the controls, but the interval holds zero


def effects(make: Make, **shown: tuple[tuple[float, float], float]) -> dict[str, Effect]:
    """Effects of the metrics, each turned to the metric's own direction."""
    found = {}
    for name, ((low, high), p) in shown.items():
        interval = tuple(sorted((DAMAGE[name] * low, DAMAGE[name] * high)))
        found[name] = make(interval=interval, p_adjusted=p, damage=DAMAGE[name])
    return found


@pytest.mark.parametrize(
    ("logit", "accuracy", "loss", "verdict"),
    [
        (BEATS, BEATS, BEATS, Verdict.PASS),
        (BEATS, BEATS, HARMED, Verdict.WEAK_PASS),
        (BEATS, NOTHING, HARMED, Verdict.WEAK_PASS),
        (BEATS, NOTHING, NOTHING, Verdict.REDUNDANT),
        (HARMED, BEATS, BEATS, Verdict.NOT_SPECIFIC),
        (NOTHING, BEATS, BEATS, Verdict.NOT_SPECIFIC),
        (DOUBTFUL, BEATS, BEATS, Verdict.NOT_SPECIFIC),
        (NOTHING, NOTHING, BEATS, Verdict.NOT_SPECIFIC),
        (NOTHING, NOTHING, NOTHING, Verdict.NULL),
        (DOUBTFUL, DOUBTFUL, DOUBTFUL, Verdict.NULL),
        (HELPED, HELPED, HELPED, Verdict.WRONG_DIRECTION),
        (HELPED, BEATS, BEATS, Verdict.WRONG_DIRECTION),
        (BEATS, BEATS, HELPED, Verdict.WRONG_DIRECTION),
        (NOTHING, HELPED, NOTHING, Verdict.WRONG_DIRECTION),
    ],
)
def test_the_verdict_follows_from_the_result_of_each_metric(
    make_effect: Make, logit: object, accuracy: object, loss: object, verdict: Verdict
) -> None:
    shown = effects(make_effect, target_logit=logit, accuracy=accuracy, loss=loss)  # type: ignore[arg-type]
    assert decide(shown, alpha=0.05)[0] is verdict


def test_power_precedes_direction_and_the_last_rule_covers_the_rest() -> None:
    assert [rule.verdict for rule in RULES] == [
        Verdict.UNDERPOWERED,
        Verdict.UNDERPOWERED,
        Verdict.UNDERPOWERED,
        Verdict.UNDERPOWERED,
        Verdict.WRONG_DIRECTION,
        Verdict.NULL,
        Verdict.NOT_SPECIFIC,
        Verdict.NOT_SPECIFIC,
        Verdict.PASS,
        Verdict.REDUNDANT,
        Verdict.WEAK_PASS,
    ]
    assert set(Verdict) == {rule.verdict for rule in RULES}


@pytest.mark.parametrize(("n", "verdict"), [(18, Verdict.UNDERPOWERED), (19, Verdict.PASS)])
def test_19_controls_are_needed_to_reach_five_percent(make_effect: Make, n: int, verdict: Verdict) -> None:
    """The smallest p is 1 / (n + 1): 1 / 20 equals the level, 1 / 19 is above it."""
    measured = {name: make_effect(controls=(0.0,) * n, p_adjusted=1 / (n + 1)) for name in METRICS}
    assert decide(measured, alpha=0.05)[0] is verdict


@pytest.mark.parametrize(("p", "verdict"), [(None, Verdict.PASS), (0.05, Verdict.PASS), (0.06, Verdict.NOT_SPECIFIC)])
def test_a_group_chosen_on_the_test_examples_must_exceed_groups_chosen_from_noise(
    make_effect: Make, p: float | None, verdict: Verdict
) -> None:
    assert decide({name: make_effect() for name in METRICS}, 0.05, p)[0] is verdict


def test_metrics_decide_in_the_order_in_which_they_are_listed_and_the_others_come_last(make_effect: Make) -> None:
    decides = {"kl": True, "loss": False, "accuracy": True, "target_logit": False}
    listed = {name: make_effect(decides=value) for name, value in decides.items()}
    assert decision_order(listed) == ["kl", "accuracy", "loss", "target_logit"]


@pytest.mark.parametrize("loss", [BEATS, HARMED, NOTHING, HELPED])
def test_a_metric_that_does_not_decide_changes_no_verdict(make_effect: Make, loss: object) -> None:
    shown = effects(make_effect, target_logit=BEATS, accuracy=BEATS, loss=loss)  # type: ignore[arg-type]
    shown["loss"] = replace(shown["loss"], decides=False)
    assert decide(shown, 0.05)[0] is Verdict.PASS
    shown["accuracy"] = make_effect(interval=(-0.1, 0.1), p_adjusted=0.6)
    assert decide(shown, 0.05)[0] is Verdict.REDUNDANT


def test_a_group_that_is_judged_on_no_example_is_underpowered(make_effect: Make) -> None:
    shown = effects(make_effect, target_logit=BEATS)
    assert decide(shown, 0.05, examples=0)[0] is Verdict.UNDERPOWERED
    assert decide(shown, 0.05, examples=1)[0] is Verdict.PASS


def test_zero_controls_are_underpowered(make_effect: Make) -> None:
    assert decide({"target_logit": make_effect(controls=(), p=None, p_adjusted=None)}, 0.05)[0] is Verdict.UNDERPOWERED


def test_one_example_is_underpowered(make_effect: Make) -> None:
    shown = effects(make_effect, target_logit=BEATS, accuracy=BEATS)
    shown["accuracy"] = make_effect(interval=None)
    assert decide(shown, 0.05)[0] is Verdict.UNDERPOWERED


def test_nothing_measured_is_underpowered() -> None:
    assert decide({}, 0.05)[0] is Verdict.UNDERPOWERED


def test_a_saturated_metric_does_not_decide(make_effect: Make) -> None:
    """A model with accuracy zero cannot lose accuracy: the other two metrics decide."""
    shown = effects(make_effect, target_logit=BEATS, accuracy=HELPED, loss=BEATS)
    assert decide(shown, 0.05)[0] is Verdict.WRONG_DIRECTION
    shown["accuracy"] = make_effect(interval=(0.0, 0.0), p_adjusted=None, saturated=True)
    assert decide(shown, 0.05)[0] is Verdict.PASS


def test_only_saturated_metrics_are_underpowered(make_effect: Make) -> None:
    assert decide({"accuracy": make_effect(saturated=True)}, 0.05)[0] is Verdict.UNDERPOWERED


def test_equal_changes_on_all_examples_are_significant(make_effect: Make) -> None:
    shown = effects(make_effect, target_logit=((1.0, 1.0), 0.03), accuracy=((0.0, 0.0), 1.0), loss=((1.0, 1.0), 0.03))
    assert decide(shown, 0.05)[0] is Verdict.WEAK_PASS


@pytest.mark.parametrize(
    ("first", "second", "verdict"),
    [(BEATS, HARMED, Verdict.WEAK_PASS), (HARMED, BEATS, Verdict.NOT_SPECIFIC), (BEATS, BEATS, Verdict.PASS)],
)
def test_the_metric_listed_first_decides_first(
    make_effect: Make, first: object, second: object, verdict: Verdict
) -> None:
    for names in (("loss", "accuracy"), ("accuracy", "loss"), ("target_logit", "loss")):
        shown = effects(make_effect, **dict(zip(names, (first, second), strict=True)))  # type: ignore[arg-type]
        assert decide(shown, 0.05)[0] is verdict


@pytest.mark.parametrize(("shown", "verdict"), [(BEATS, Verdict.PASS), (HARMED, Verdict.NOT_SPECIFIC)])
def test_one_metric_can_pass(make_effect: Make, shown: object, verdict: Verdict) -> None:
    for name in METRICS:
        assert decide(effects(make_effect, **{name: shown}), 0.05)[0] is verdict  # type: ignore[arg-type]


intervals = st.none() | st.tuples(st.floats(), st.floats())
anything = st.builds(
    Effect,
    baseline=st.floats(),
    ablated=st.floats(),
    delta=st.floats(),
    controls=st.lists(st.floats(), max_size=120).map(tuple),
    z=st.none() | st.floats(),
    p=st.none() | st.floats(0, 1),
    p_adjusted=st.none() | st.floats(0, 1),
    interval=intervals,
    damage=st.sampled_from([1, -1]),
    saturated=st.booleans(),
)


@given(st.dictionaries(st.sampled_from([*METRICS, "other"]), anything), st.floats(0.001, 0.5))
def test_every_outcome_has_a_verdict_and_a_reason(found: dict[str, Effect], alpha: float) -> None:
    verdict, reason = decide(found, alpha)
    assert isinstance(verdict, Verdict)
    assert reason


sound = st.builds(
    lambda low, width, p, damage: Effect(0.0, 0.0, 0.0, (0.0,) * 99, 0.0, p, p, (low, low + width), damage),
    st.floats(-2, 2),
    st.floats(0, 2),
    st.floats(0.001, 1),
    st.sampled_from([1, -1]),
)


@given(st.dictionaries(st.sampled_from(METRICS), sound, min_size=1))
def test_a_pass_requires_damage_beyond_the_controls_in_every_metric(found: dict[str, Effect]) -> None:
    verdict, _ = decide(found, 0.05)
    worst_end = {name: min(e.damage * e.interval[0], e.damage * e.interval[1]) for name, e in found.items()}  # type: ignore[index]
    convincing = all(worst_end[name] > 0 and found[name].p_adjusted <= 0.05 for name in found)  # type: ignore[operator]
    assert (verdict is Verdict.PASS) == convincing


@given(st.dictionaries(st.sampled_from(METRICS), sound, min_size=1))
def test_a_result_and_its_sign_reversal_never_both_pass(found: dict[str, Effect]) -> None:
    turned = {
        name: Effect(0.0, 0.0, 0.0, e.controls, 0.0, e.p, e.p_adjusted, e.interval, -e.damage)
        for name, e in found.items()
    }
    passes = {Verdict.PASS, Verdict.WEAK_PASS, Verdict.REDUNDANT}
    assert not (decide(found, 0.05)[0] in passes and decide(turned, 0.05)[0] in passes)


def test_an_underpowered_test_gives_the_reason(make_effect: Make) -> None:
    lacking = {
        "one example": make_effect(interval=None),
        "control groups": make_effect(controls=(0.0,) * 5),
        "worst value": make_effect(saturated=True),
    }
    for what, effect in lacking.items():
        assert what in decide({"target_logit": effect}, 0.05)[1]
