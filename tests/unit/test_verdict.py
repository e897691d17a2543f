"""The verdict: every rule is reached, in order, and no verdict contradicts its reason or its numbers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.closure.necessity import DISPENSABLE
from harness.closure.statistics import Effect
from harness.closure.verdict import EQUIVALENT, RULES, Evidence, Verdict, bounded, decide, decision_order
from harness.data.sampling import Group
from harness.data.units import UnitSpace
from tests.unit.worlds import Score, background, backups, chain, chain_with_backup, results_of, sum_of, trial_of

Make = Callable[..., Effect]
METRICS = ("target_logit", "accuracy", "loss")
UNITS = ("L0H0", "L0H1", "L1H0")
ALPHA = 0.05

# What a metric shows. The 99 compared groups of an effect have a spread of .289.
BEATS: dict[str, Any] = {"harmed": True, "p": 0.03, "p_adjusted": 0.03, "bound": 1.5}
HARMED: dict[str, Any] = {"harmed": True, "p": 0.4, "p_adjusted": 0.4, "bound": 1.5}
CORRECTED: dict[str, Any] = {"harmed": True, "p": 0.03, "p_adjusted": 0.09, "bound": 1.5}
NOTHING: dict[str, Any] = {"harmed": False, "p": 0.4, "p_adjusted": 0.4, "bound": 0.05}
# p is small, but the interval holds zero
DOUBTFUL: dict[str, Any] = {"harmed": False, "p": 0.03, "p_adjusted": 0.03, "bound": 1.5}
HELPED: dict[str, Any] = {"harmed": False, "helped": True, "p": 1.0, "p_adjusted": 1.0, "bound": -0.5}


def evidence(make: Make, first: Any = BEATS, second: Any = None, third: Any = None, **changes: Any) -> Evidence:
    """Evidence of up to three metrics."""
    shown = [found for found in (first, second, third) if found is not None]
    effects = {name: make(**found) for name, found in zip(METRICS, shown, strict=False)}
    return Evidence(effects, ALPHA, **{"units": UNITS, "comparable": 99, "examples": 32, **changes})


@pytest.mark.parametrize(
    ("first", "second", "third", "verdict"),
    [
        (BEATS, BEATS, BEATS, Verdict.PASS),
        (BEATS, None, None, Verdict.PASS),
        (BEATS, BEATS, HARMED, Verdict.WEAK_PASS),
        (BEATS, BEATS, CORRECTED, Verdict.WEAK_PASS),
        (BEATS, BEATS, HELPED, Verdict.WEAK_PASS),
        (BEATS, NOTHING, HELPED, Verdict.WEAK_PASS),
        (BEATS, NOTHING, HARMED, Verdict.WEAK_PASS),
        (BEATS, DOUBTFUL, DOUBTFUL, Verdict.WEAK_PASS),
        (BEATS, NOTHING, NOTHING, Verdict.REDUNDANT),
        (BEATS, HELPED, None, Verdict.WEAK_PASS),
        (HARMED, BEATS, BEATS, Verdict.NOT_SPECIFIC),
        (CORRECTED, BEATS, BEATS, Verdict.NOT_SPECIFIC),
        (NOTHING, BEATS, BEATS, Verdict.NULL),
        (DOUBTFUL, BEATS, BEATS, Verdict.INCONCLUSIVE),
        (NOTHING, HELPED, HELPED, Verdict.NULL),
        (HELPED, BEATS, BEATS, Verdict.WRONG_DIRECTION),
    ],
)
def test_the_first_metric_decides_and_the_others_weaken(
    make_effect: Make, first: Any, second: Any, third: Any, verdict: Verdict
) -> None:
    assert decide(evidence(make_effect, first, second, third))[0] is verdict


def test_the_rules_are_read_in_this_order_and_the_last_one_covers_the_rest() -> None:
    assert [rule.verdict for rule in RULES] == [
        Verdict.TASK_NOT_DONE,
        Verdict.UNDERPOWERED,
        Verdict.UNDERPOWERED,
        Verdict.UNDERPOWERED,
        Verdict.UNDERPOWERED,
        Verdict.UNDERPOWERED,
        Verdict.WRONG_DIRECTION,
        Verdict.NULL,
        Verdict.INCONCLUSIVE,
        Verdict.NOT_SPECIFIC,
        Verdict.NOT_SPECIFIC,
        Verdict.PASS,
        Verdict.REDUNDANT,
        Verdict.WEAK_PASS,
    ]
    assert set(Verdict) == {rule.verdict for rule in RULES}


def test_a_task_that_the_model_does_not_do_is_said_before_anything_else(make_effect: Make) -> None:
    found = evidence(make_effect, task="accuracy .10, chance .12", examples=0)
    assert decide(found) == (Verdict.TASK_NOT_DONE, "Accuracy .10, chance .12.")


@pytest.mark.parametrize(
    ("changes", "effect", "reason"),
    [
        ({"examples": 0}, BEATS, "active on no example"),
        ({"examples": 5}, BEATS, "5 examples are not enough: no damage is certain with fewer than 6"),
        ({}, {**BEATS, "saturated": True}, "worst value"),
        ({}, {**BEATS, "bound": None}, "needs two examples"),
        ({"comparable": 18}, BEATS, r"18 other groups can be compared with it; p <= 0.05 needs 19"),
        ({"comparable": 0}, {**BEATS, "p": None, "controls": ()}, "No other groups can be compared with it"),
        ({"comparable": None}, {**BEATS, "p": None}, "No other groups"),
    ],
)
def test_an_underpowered_test_says_what_it_lacks(make_effect: Make, changes: Any, effect: Any, reason: str) -> None:
    verdict, said = decide(evidence(make_effect, effect, **changes))
    assert verdict is Verdict.UNDERPOWERED
    assert re.search(reason, said)


@pytest.mark.parametrize(("n", "verdict"), [(18, Verdict.UNDERPOWERED), (19, Verdict.PASS)])
def test_19_groups_are_needed_to_reach_five_percent(make_effect: Make, n: int, verdict: Verdict) -> None:
    """The smallest p is 1 / (n + 1): 1 / 20 equals the level, 1 / 19 is above it."""
    effect = {**BEATS, "controls": (0.0,) * n, "p": 1 / (n + 1), "p_adjusted": 1 / (n + 1)}
    assert decide(evidence(make_effect, effect, comparable=n))[0] is verdict


def test_a_damage_is_absent_up_to_half_the_spread_of_the_groups(make_effect: Make) -> None:
    spread = make_effect().spread
    assert spread == pytest.approx(np.std(np.arange(99) / 100, ddof=1))
    for bound, verdict in ((EQUIVALENT * spread, Verdict.NULL), (1.001 * EQUIVALENT * spread, Verdict.INCONCLUSIVE)):
        assert decide(evidence(make_effect, {**NOTHING, "bound": bound}))[0] is verdict


@pytest.mark.parametrize(("p", "verdict"), [(None, Verdict.PASS), (0.05, Verdict.PASS), (0.06, Verdict.NOT_SPECIFIC)])
def test_a_group_chosen_on_the_test_examples_must_exceed_groups_chosen_from_noise(
    make_effect: Make, p: float | None, verdict: Verdict
) -> None:
    assert decide(evidence(make_effect, selection_p=p))[0] is verdict


def test_dispensable_units_make_a_weak_pass_that_names_the_others(make_effect: Make) -> None:
    verdict, reason = decide(evidence(make_effect, dispensable=("L0H1",)))
    assert verdict is Verdict.WEAK_PASS
    assert "L0H1 can be spared (core: L0H0 L1H0)" in reason
    verdict, reason = decide(evidence(make_effect, BEATS, NOTHING, dispensable=("L0H1", "L1H0")))
    assert verdict is Verdict.REDUNDANT
    assert "L0H1 and L1H0 can be spared (core: L0H0)" in reason


@pytest.mark.parametrize(
    ("interaction", "verdict"),
    [((-1.0, -0.2), Verdict.PASS), ((-0.5, 0.0), Verdict.WEAK_PASS), (None, Verdict.WEAK_PASS)],
)
def test_a_joint_group_needs_an_interaction_below_zero(make_effect: Make, interaction: Any, verdict: Verdict) -> None:
    assert decide(evidence(make_effect, joint=True, interaction=interaction))[0] is verdict
    assert decide(evidence(make_effect, joint=False, interaction=interaction))[0] is Verdict.PASS


@pytest.mark.parametrize(("least", "verdict"), [(1.0, Verdict.PASS), (0.5, Verdict.WEAK_PASS)])
def test_a_joint_group_is_not_two_groups_that_are_active_together(
    make_effect: Make, least: float, verdict: Verdict
) -> None:
    """Two chains: every link adds the damage of its own chain, at most half of the group's in the weaker one."""
    joint = evidence(make_effect, joint=True, interaction=(-0.4, -0.3), least=least)
    assert decide(joint)[0] is verdict
    assert ("several groups" in decide(joint)[1]) is (verdict is Verdict.WEAK_PASS)


def test_a_pass_says_how_many_units_of_a_large_group_were_examined(make_effect: Make) -> None:
    units = tuple(f"L0H{unit}" for unit in range(20))
    assert (
        "each unit of the 8 that were examined is needed" in decide(evidence(make_effect, units=units, undecided=12))[1]
    )
    assert "and each unit is needed" in decide(evidence(make_effect))[1]
    assert "is needed" not in decide(evidence(make_effect, units=UNITS[:1]))[1]
    assert "is needed" not in decide(evidence(make_effect, test="disjoint"))[1]


def test_a_corrected_p_above_the_level_is_said(make_effect: Make) -> None:
    _, reason = decide(evidence(make_effect, CORRECTED))
    assert "p is above 0.05 once it is corrected for the candidates tested together" in reason
    assert "2 of 99 groups of the same profile are at least as necessary, p 0.030; 0.090 after correction" in reason
    assert "stand out" not in reason


# -- which metrics count -----------------------------------------------------------------------------------------------


def test_metrics_decide_in_the_order_in_which_they_are_listed_and_the_others_come_last(make_effect: Make) -> None:
    decides = {"kl": True, "loss": False, "accuracy": True, "target_logit": False}
    listed = {name: make_effect(decides=value) for name, value in decides.items()}
    assert decision_order(listed) == ["kl", "accuracy", "loss", "target_logit"]
    listed["kl"] = make_effect(saturated=True)
    assert decision_order(listed)[0] == "accuracy"


@pytest.mark.parametrize("loss", [BEATS, HARMED, NOTHING, HELPED])
def test_a_metric_that_does_not_decide_changes_no_verdict(make_effect: Make, loss: Any) -> None:
    loss = {**loss, "decides": False}
    assert decide(evidence(make_effect, BEATS, BEATS, loss))[0] is Verdict.PASS
    assert decide(evidence(make_effect, BEATS, NOTHING, loss))[0] is Verdict.REDUNDANT


def test_a_saturated_metric_does_not_decide(make_effect: Make) -> None:
    """A model with accuracy zero cannot lose accuracy: the other two metrics decide."""
    assert decide(evidence(make_effect, BEATS, {**NOTHING, "saturated": True}, BEATS))[0] is Verdict.PASS
    assert decide(evidence(make_effect, {**NOTHING, "saturated": True}, BEATS, BEATS))[0] is Verdict.PASS


def test_nothing_measured_is_underpowered() -> None:
    assert decide(Evidence({}, ALPHA))[0] is Verdict.UNDERPOWERED


# -- no two statements contradict each other ---------------------------------------------------------------------------


def assert_consistent(e: Evidence, verdict: Verdict, reason: str) -> None:
    """Every statement of the reason agrees with the verdict, with the others and with the numbers."""
    assert re.fullmatch(r"[A-Z0-9].*[^.;,]\.", reason)
    if verdict in (Verdict.TASK_NOT_DONE, Verdict.UNDERPOWERED):
        assert "damages" not in reason
        return
    first, effects = e.first_effect, {name.replace("_", " "): effect for name, effect in e.deciding.items()}
    significant = first.p_adjusted is not None and first.p_adjusted <= e.alpha
    specific = {Verdict.PASS, Verdict.WEAK_PASS, Verdict.REDUNDANT}
    assert first.harmed == (verdict in {*specific, Verdict.NOT_SPECIFIC})
    assert first.helped == (verdict is Verdict.WRONG_DIRECTION)
    assert not (verdict in specific and not significant)
    assert ("can be spared" in reason) == (bool(e.dispensable) and verdict in specific)
    if verdict is Verdict.PASS:
        assert all(e.passes(name) and not e.others.get(name, first).helped for name in e.deciding)
    if verdict is Verdict.NOT_SPECIFIC:
        assert not significant or "permuted" in reason
        assert ("corrected" in reason) == (not significant and first.p is not None and first.p <= e.alpha)
        assert ("stand out" in reason) == (first.p is not None and first.p > e.alpha)
    if verdict is Verdict.NULL:
        assert first.bound is not None
        assert first.bound <= EQUIVALENT * first.spread
    for name, effect in effects.items():
        if f"{name} improves" in reason or f"improves {name}" in reason:
            assert effect.helped
        if f"damages {name}" in reason and "at most" not in reason and "no damage" not in reason:
            assert effect.harmed
        if f"{name} does not pass (no certain damage)" in reason:
            assert not effect.harmed
    if "unchanged" in reason:
        assert verdict is Verdict.REDUNDANT
        assert not any(effect.harmed or effect.helped or not bounded(effect) for effect in e.others.values())
    counts = re.findall(r"(\d+) of (\d+) (?:groups of the same profile|control groups)", reason)
    stated = {
        (round((effect.p or 0) * (1 + len(effect.controls))) - 1, len(effect.controls)) for effect in effects.values()
    }
    assert {(int(k), int(n)) for k, n in counts} <= stated


@st.composite
def drawn_effects(draw: st.DrawFn) -> Effect:
    """An effect as the closure test measures it: what is certain follows from the bounds, p from a count."""
    n = draw(st.sampled_from([0, 5, 19, 99, 199]))
    low = draw(st.floats(-2, 2))
    high = low + draw(st.floats(0, 2))
    as_extreme = draw(st.integers(0, n))
    p = (1 + as_extreme) / (1 + n) if n else None
    return Effect(
        baseline=1.0,
        ablated=1.0 - (low + high) / 2,
        delta=-(low + high) / 2,
        controls=tuple(np.linspace(0, draw(st.floats(0, 4)), n).tolist()),
        z=None,
        p=p,
        p_adjusted=None if p is None else min(1.0, p * draw(st.sampled_from([1, 1, 2, 5]))),
        interval=(-high, -low),
        damage=-1,
        saturated=draw(st.sampled_from([False, False, False, True])),
        decides=draw(st.sampled_from([True, True, False])),
        harmed=low > 0,
        helped=high < 0,
        bound=draw(st.sampled_from([high, high, high, high, None])),
    )


@st.composite
def drawn_evidence(draw: st.DrawFn) -> Evidence:
    units = UNITS[: draw(st.integers(1, 3))]
    effects = draw(st.dictionaries(st.sampled_from(METRICS), drawn_effects(), min_size=1))
    groups = max(len(effect.controls) for effect in effects.values())
    return Evidence(
        effects,
        alpha=draw(st.sampled_from([0.01, 0.05, 0.25])),
        units=units,
        dispensable=tuple(draw(st.lists(st.sampled_from(units), unique=True))),
        comparable=draw(st.sampled_from([None, groups, groups + 50])),
        examples=draw(st.sampled_from([0, 32, 32, 32])),
        task=draw(st.sampled_from(["", "", "accuracy .10, chance .12"])),
        interaction=draw(st.none() | st.sampled_from([(-1.0, -0.5), (-0.2, 0.3)])),
        joint=draw(st.booleans()),
        least=draw(st.none() | st.floats(0, 1)),
        selection_p=draw(st.none() | st.floats(0.001, 1)),
        test=draw(st.sampled_from(["exact", "disjoint"])),
    )


@given(drawn_evidence())
@settings(max_examples=400)
def test_no_statement_contradicts_another_or_the_numbers(e: Evidence) -> None:
    verdict, reason = decide(e)
    assert_consistent(e, verdict, reason)


@given(drawn_evidence())
def test_a_result_and_its_sign_reversal_never_both_pass(e: Evidence) -> None:
    passes = {Verdict.PASS, Verdict.WEAK_PASS, Verdict.REDUNDANT}
    turned = {name: replace(effect, harmed=effect.helped, helped=effect.harmed) for name, effect in e.effects.items()}
    assert not (decide(e)[0] in passes and decide(replace(e, effects=turned))[0] in passes)


# -- in worlds ---------------------------------------------------------------------------------------------------------


def slow_contributions(group: Group, damage: Callable[[Group], float]) -> dict[int, float]:
    """c_u by its definition."""

    def d(*units: int) -> float:
        return damage(units) if units else 0.0

    return {
        u: max(
            d(u),
            d(*group) - d(*(v for v in group if v != u)),
            *(d(u, v) - d(v) for v in group if v != u and len(group) > 1),
        )
        for u in group
    }


@pytest.mark.unchecked  # a closure test for every example
@given(st.integers(0, 10_000), st.sampled_from([(0, 1), (0, 1, 2), (0, 1, 9)]), st.floats(0, 8))
@settings(max_examples=60)
def test_reports_of_random_worlds_agree_with_their_numbers(world: int, group: Group, strength: float) -> None:
    """A chain, backups, a chain with a backup, or one strong unit, amid noise of units and examples."""
    circuits: Sequence[Any] = [chain(*group), backups(*group), chain(group[0])]
    if len(group) == 3:
        circuits = [*circuits, chain_with_backup(*group)]
    units, circuit = UnitSpace.heads([8, 4]), circuits[world % len(circuits)]
    noise, rng = background(12, world), np.random.default_rng(world)
    per_example, sign = rng.normal(1, 0.7, 12), rng.choice([-1, 1, 1])
    total = sum_of(noise, lambda g: sign * strength * circuit(g))

    def damage(g: Group) -> Any:
        return total(g) * per_example

    trial = trial_of(units, damage, n=12, futility=rng.choice([None, 10]), metrics=[Score(), Score("second")])
    (result,) = results_of(trial, group)
    report = result.report
    assert_consistent(report.evidence(trial.alpha), report.verdict, report.reason)
    for effect in report.effects.values():
        assert effect.statistic is not None
        others: list[Any] = list(effect.statistics)
        extreme = sum(other >= effect.statistic - 1e-9 * abs(effect.statistic) for other in others)
        assert effect.p == pytest.approx((1 + extreme) / (1 + len(others)))
        assert report.n_controls == len(others) == len(effect.controls) == len(report.groups)
    expected = slow_contributions(group, lambda g: float(total(g) * per_example.mean()))
    own = -report.effects["score"].delta
    spared = [units.labels[u] for u in group if expected[u] <= DISPENSABLE * own] if own > 0 else []
    assert list(report.dispensable) == spared
    assert not (report.verdict is Verdict.PASS and spared)
    numbers: Mapping[str, Any] = report.anatomy
    assert numbers["score"].necessity == pytest.approx([expected[u] for u in group])
