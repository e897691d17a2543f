"""Several candidates of a cell, the examples each is judged on, joint groups, candidates that cannot be tested."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import binom

from harness.cells.cell import Cell
from harness.closure.anatomy import interaction
from harness.closure.comparison import Exact
from harness.closure.report import CandidateResult, ClosureReport
from harness.closure.statistics import benjamini_hochberg
from harness.closure.verdict import Verdict
from harness.data.recording import Activity
from harness.data.sampling import Group
from harness.data.units import Unit, UnitSpace
from harness.registry.config import resolve
from harness.util.errors import HarnessError
from tests.unit.worlds import (
    Score,
    additive,
    background,
    backups,
    chain,
    offered,
    results_of,
    sum_of,
    trial_of,
)

pytestmark = pytest.mark.unchecked

SITE = UnitSpace.heads([12])
"""66 pairs: one candidate in three reaches 5 %."""


def reports_on(trial: Any, *candidates: Group) -> list[ClosureReport]:
    return [result.report for result in results_of(trial, *candidates)]


def first_p(result: CandidateResult | ClosureReport) -> tuple[float, float]:
    report = result.report if isinstance(result, CandidateResult) else result
    effect = report.effects["score"]
    assert effect.p is not None
    assert effect.p_adjusted is not None
    return effect.p, effect.p_adjusted


# -- up to three candidates: a fixed sequence --------------------------------------------------------------------------

THREE = sum_of(chain(0, 1, strength=9.0), chain(2, 3, strength=8.0), chain(4, 5, strength=7.0))
"""Of 66 pairs, the first of two links each: within chains, T is 9, 8 and 7; across chains it is the smaller of both."""


def test_each_candidate_of_a_sequence_is_tested_at_the_full_level() -> None:
    found = reports_on(trial_of(SITE, THREE), (0, 1), (2, 3))
    assert [first_p(report) for report in found] == [(1 / 66, 1 / 66), (pytest.approx(6 / 66),) * 2]


def test_the_first_candidate_that_fails_ends_the_sequence() -> None:
    weak, strong = (10, 11), (0, 1)
    alone = reports_on(trial_of(SITE, THREE), strong)[0]
    assert (alone.verdict, first_p(alone)[1]) == (Verdict.PASS, pytest.approx(1 / 66))
    before = reports_on(trial_of(SITE, THREE), strong, weak)[0]
    assert before.verdict is Verdict.PASS
    _, after = reports_on(trial_of(SITE, THREE), (4, 6), strong)
    p, corrected = first_p(after)
    assert p == pytest.approx(1 / 66)
    assert corrected == first_p(reports_on(trial_of(SITE, THREE), (4, 6))[0])[0] > 0.05
    assert after.verdict is Verdict.NOT_SPECIFIC
    assert "once it is corrected for the candidates tested together" in after.reason


def test_a_candidate_that_cannot_be_tested_does_not_end_the_sequence() -> None:
    whole, pair = reports_on(trial_of(SITE, THREE), tuple(range(12)), (0, 1))
    assert whole.verdict is Verdict.UNDERPOWERED
    assert pair.verdict is Verdict.PASS


@pytest.mark.parametrize("kind", ["normal", "lognormal"])
def test_any_of_three_random_candidates_reaches_five_percent_no_more_often_than_that(kind: str) -> None:
    """Each world has three random pairs; the first one that is above the level ends it."""
    worlds, passed = 300, 0
    for world in range(worlds):
        rng = np.random.default_rng(world)
        damage = background(12, world, kind)
        trial = trial_of(SITE, damage, futility=None)
        comparison = trial.comparison((0, 1))
        pairs = [(0, 1), *comparison.groups]
        t = np.array([comparison.statistic(pair, lambda g, d=damage: np.array([d(g)]))[0] for pair in pairs])
        drawn = t[rng.choice(len(pairs), 3, replace=False)]
        p = np.maximum.accumulate([(t >= own - 1e-9).sum() / len(t) for own in drawn])
        passed += p.min() <= 0.05
    assert passed <= binom(worlds, 0.05).ppf(0.999)


# -- more: Benjamini-Hochberg ------------------------------------------------------------------------------------------


def test_more_than_three_candidates_are_corrected_by_benjamini_hochberg_in_any_order() -> None:
    candidates = [(0, 1), (2, 3), (4, 5), (10, 11)]
    straight = [first_p(report) for report in reports_on(trial_of(SITE, THREE), *candidates)]
    assert [corrected for _, corrected in straight] == pytest.approx(benjamini_hochberg([p for p, _ in straight]))
    backwards = [first_p(report) for report in reports_on(trial_of(SITE, THREE), *candidates[::-1])]
    assert backwards == straight[::-1]


def test_true_groups_do_not_stand_in_each_others_way_where_many_are_tested() -> None:
    """Five true pairs of a site: with the others in its pool, p of the weakest could not go below 5 / 66."""
    pairs = [(2 * i, 2 * i + 1) for i in range(5)]
    damage = sum_of(*(backups(*pair, strength=9.0 - i) for i, pair in enumerate(pairs)))
    found = reports_on(trial_of(SITE, damage), *pairs)
    assert [report.verdict for report in found] == [Verdict.PASS] * 5
    assert [first_p(report)[0] for report in found] == pytest.approx([1 / 62] * 5)
    assert all(report.comparable == 61 for report in found)
    alone = reports_on(trial_of(SITE, damage), pairs[4])[0]
    assert first_p(alone)[0] == pytest.approx(5 / 66)


# -- every group is judged on its own examples -------------------------------------------------------------------------


MECHANISMS = 12


def mismatched() -> tuple[UnitSpace, Any, Activity]:
    """Twelve mechanisms of two units, each used on six of 72 examples; breaking one does one damage there."""
    units = UnitSpace(
        tuple(Unit(f"{site}{m}", site, depth, "part") for depth, site in enumerate("ab") for m in range(MECHANISMS))
    )
    used = np.repeat(np.eye(MECHANISMS), 6, axis=0)  # [examples, mechanisms]

    def damage(group: Group) -> np.ndarray:
        broken = sorted({unit % MECHANISMS for unit in group})
        return np.asarray(used[:, broken].sum(axis=1))

    return units, damage, Activity(np.hstack([used, used]), units)


def test_the_examples_of_the_candidate_alone_would_pass_a_mismatched_pair() -> None:
    """A unit of one mechanism and one of another: on *their* examples, no other pair does as much as they do, apart
    from pairs that hold a unit of both. On its own examples, every pair does all there is to do.
    """
    units, damage, activity = mismatched()
    wrong_pair, true_pair = (0, MECHANISMS + 1), (0, MECHANISMS)
    trial = trial_of(units, damage, n=72, activity=activity, scope="active", futility=None)
    wrong, right = (reports_on(trial, pair)[0] for pair in (wrong_pair, true_pair))
    inside = wrong.anatomy["score"].on_input  # the same examples for everybody: a description
    assert inside is not None
    assert (inside.n, inside.delta) == (12, pytest.approx(-1.0))
    assert inside.p == pytest.approx(2 / 144)  # (1, 12) does as much
    assert (wrong.scope, wrong.n_examples, right.n_examples) == ("active", 12, 6)
    assert wrong.effects["score"].statistic == pytest.approx(0.5)  # each unit on half of its examples
    assert right.effects["score"].statistic == pytest.approx(1.0)
    assert first_p(wrong)[0] == 1.0
    assert first_p(right)[0] == pytest.approx(12 / 144)  # the twelve true pairs
    assert wrong.verdict is Verdict.NOT_SPECIFIC
    whole, parts = damage(wrong_pair), np.stack([damage((unit,)) for unit in wrong_pair])
    apart = interaction(-whole, -parts, seed=0)
    assert apart is not None
    assert apart.value == pytest.approx(0.0)


def test_true_pairs_pass_on_their_examples_where_all_are_candidates() -> None:
    units, damage, activity = mismatched()
    pairs = [(m, MECHANISMS + m) for m in range(MECHANISMS)]
    trial = trial_of(units, damage, n=72, activity=activity, scope="active", joint=True)
    found = reports_on(trial, *pairs)
    assert {report.verdict for report in found} == {Verdict.PASS}
    assert [first_p(report)[0] for report in found] == pytest.approx([1 / 133] * MECHANISMS)


def test_statistics_follow_the_groups_own_examples() -> None:
    """By hand, for every group of the pool."""
    units, damage, activity = mismatched()
    rng = np.random.default_rng(0)
    noisy = Activity(activity.values + 0.3 * rng.random(activity.values.shape), units)
    trial = trial_of(units, damage, n=72, activity=noisy, scope="active", futility=None)
    (report,) = reports_on(trial, (0, MECHANISMS))
    effect = report.effects["score"]
    above = noisy.values > noisy.values.mean(axis=0)
    for group, delta, statistic in zip(report.groups, effect.controls, effect.statistics, strict=True):
        own = above[:, list(group)].any(axis=1)
        a, b, both = (float(damage(g)[own].mean()) for g in (group[:1], group[1:], group))
        assert delta == pytest.approx(-both)
        assert statistic == pytest.approx(min(max(a, both - b), max(b, both - a)))


def test_a_group_that_is_active_on_no_example_is_underpowered() -> None:
    units, damage, activity = mismatched()
    dead = activity.values.copy()
    dead[:, [0, MECHANISMS]] = 0.0
    trial = trial_of(units, damage, n=72, activity=Activity(dead, units), scope="active")
    (report,) = reports_on(trial, (0, MECHANISMS))
    assert (report.verdict, report.reason) == (Verdict.UNDERPOWERED, "The group is active on no example.")


# -- joint groups ------------------------------------------------------------------------------------------------------


def test_a_joint_group_needs_an_interaction_below_zero() -> None:
    """A chain has -1. Two strong units that do not interact pass by T, but not as one mechanism."""
    noise = np.random.default_rng(0).normal(1, 0.1, 12)
    together = chain(0, 1, strength=9.0)
    apart = additive([9.0, 9.0, *np.linspace(0, 1, 10)])
    for damage, joint, verdict in (
        (together, True, Verdict.PASS),
        (apart, False, Verdict.PASS),
        (apart, True, Verdict.WEAK_PASS),
    ):
        trial = trial_of(SITE, lambda group, d=damage: d(group) * noise, n=12, joint=joint)
        (report,) = reports_on(trial, (0, 1))
        assert report.verdict is verdict
        assert report.joint is joint
        assert ("not shown to need each other" in report.reason) is (verdict is Verdict.WEAK_PASS)


# -- candidates that cannot be tested ----------------------------------------------------------------------------------


@pytest.mark.parametrize("candidate", [tuple(range(8)), tuple(range(16))])
def test_whole_sites_have_nothing_to_be_compared_with(candidate: Group) -> None:
    units = UnitSpace.heads([8, 8])
    (report,) = reports_on(trial_of(units, chain(0)), candidate)
    assert report.verdict is Verdict.UNDERPOWERED
    assert report.reason == "No other groups can be compared with it; p <= 0.05 needs 19."
    assert report.effects["score"].p is None


def test_a_single_unit_is_compared_with_the_other_units_of_its_site() -> None:
    few, many = UnitSpace.heads([8]), UnitSpace.heads([20])
    (report,) = reports_on(trial_of(few, chain(0)), (0,))
    assert report.verdict is Verdict.UNDERPOWERED
    assert report.reason == "7 other groups can be compared with it; p <= 0.05 needs 19."
    (report,) = reports_on(trial_of(many, chain(0)), (0,))
    assert report.verdict is Verdict.PASS
    assert first_p(report)[0] == 1 / 20
    assert report.effects["score"].statistic == 1.0
    assert (report.dispensable, report.anatomy["score"].interaction) == ((), None)
    assert "is needed" not in report.reason


@pytest.mark.parametrize("n", [1, 2, 5])
def test_a_few_examples_are_not_enough_even_if_all_of_them_get_worse(n: int) -> None:
    """A sign test of five has p = 1/32, that of six 1/64."""
    (report,) = reports_on(trial_of(SITE, chain(0, 1), n=n), (0, 1))
    assert report.verdict is Verdict.UNDERPOWERED
    assert report.reason == f"{n} examples are not enough: no damage is certain with fewer than 6."
    (report,) = reports_on(trial_of(SITE, chain(0, 1), n=6), (0, 1))
    assert report.verdict is Verdict.PASS


def test_more_units_than_can_be_ablated_together_are_refused() -> None:
    units = UnitSpace(SITE.units, {"L0.attn": 1})
    with pytest.raises(HarnessError, match=r"cannot be ablated together; at most 1 of L0\.attn"):
        results_of(trial_of(units, chain(0)), (0, 1))


@pytest.mark.parametrize(
    ("word", "refusal"),
    [
        ("test=excat", r"test='excat': must be 'exact' or 'disjoint'"),
        ("statistic=t", r"statistic='t': must be 'necessity' or 'share'"),
        ("joint=perhaps", r"joint='perhaps': must be true or false"),
    ],
)
def test_unknown_settings_are_refused(word: str, refusal: str) -> None:
    with pytest.raises(HarnessError, match=refusal):
        Cell.of(resolve([word], offered()), offered())


# -- the metric that decides first -------------------------------------------------------------------------------------


def test_units_can_be_spared_by_the_first_metric_that_is_not_at_its_worst_value() -> None:
    """The first metric is on its floor: the second says that unit 2 does nothing."""
    floor = Score("floor")
    object.__setattr__(floor, "worst", 0.4375)  # the mean of eight baselines
    trial = trial_of(SITE, chain(0, 1, strength=9.0), metrics=[floor, Score()])
    (report,) = reports_on(trial, (0, 1, 2))
    assert report.effects["floor"].saturated
    assert report.dispensable == ("L0H2",)
    assert "L0H2 can be spared (core: L0H0 L0H1)" in report.reason
    assert report.verdict is Verdict.WEAK_PASS


def test_equal_changes_of_a_continuous_metric_are_no_counts_of_answers() -> None:
    """A loss that rises by one on every example has an interval; accuracies of 0 and 1 are counted."""
    (report,) = reports_on(trial_of(SITE, chain(0, 1)), (0, 1))
    effect = report.effects["score"]
    assert (effect.changed, effect.interval, effect.bound) == (None, (-1.0, -1.0), 1.0)
    (report,) = reports_on(trial_of(SITE, lambda _: 0.0), (0, 1))
    assert report.verdict is Verdict.NULL
    assert report.effects["score"].bound == 0.0


def test_the_comparison_of_a_trial_is_the_exact_test_unless_said_otherwise() -> None:
    assert isinstance(trial_of(SITE, chain(0)).comparison((0, 1)), Exact)
