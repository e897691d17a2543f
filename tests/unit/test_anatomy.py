"""Anatomy of a group: planted chains, independent parts, redundant units and bystanders against theory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.closure.anatomy import (
    active,
    completeness,
    interaction,
    leave_one_out,
    on_input,
    sufficiency,
)
from harness.closure.statistics import p_value, z_score
from harness.util.errors import HarnessError

Damage = Callable[[Iterable[int]], np.ndarray]
"""What ablating these units does to each example."""

STRENGTH = np.random.default_rng(0).uniform(0.5, 2.0, 50)


def chain(units: Iterable[int]) -> np.ndarray:
    """A chain: removing any unit does the full damage."""
    return STRENGTH * any(True for _ in units)


def independent(units: Iterable[int]) -> np.ndarray:
    """Unit i does i + 1 times the damage."""
    return STRENGTH * sum(unit + 1 for unit in units)


def backup(size: int) -> Damage:
    """Redundant units: damage only if all ``size`` units are removed."""
    return lambda units: STRENGTH * (len(set(units)) == size)


def bystander(units: Iterable[int]) -> np.ndarray:
    """A chain of units 0 and 1; every other unit is a bystander."""
    return STRENGTH * bool({0, 1} & set(units))


def decomposed(damage: Damage, g: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Damage of the group of units 0 .. g-1, of each alone, and of the group without each."""
    everyone = range(g)
    parts = np.stack([damage([unit]) for unit in everyone])
    return damage(everyone), parts, np.stack([damage([u for u in everyone if u != unit]) for unit in everyone])


# ----------------------------------------------------------------------------------------------------------------------
# Interaction
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("g", [2, 3, 7])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_chain_has_interaction_minus_one_whatever_its_length(g: int, sign: int) -> None:
    whole, parts, _ = decomposed(lambda units: sign * chain(units), g)
    found = interaction(whole, parts, seed=0)
    assert found is not None
    assert found.value == pytest.approx(-1, abs=1e-12)
    assert found.interval == pytest.approx((-1, -1), abs=1e-12)  # on every example alike


@pytest.mark.parametrize("g", [2, 3, 7])
def test_independent_parts_have_no_interaction(g: int) -> None:
    whole, parts, _ = decomposed(independent, g)
    found = interaction(whole, parts, seed=0)
    assert found is not None
    assert found.value == pytest.approx(0, abs=1e-12)
    assert found.interval == pytest.approx((0, 0), abs=1e-12)


@pytest.mark.parametrize("g", [2, 3, 7])
def test_units_that_back_each_other_up_have_positive_interaction(g: int) -> None:
    whole, parts, _ = decomposed(backup(size=g), g)
    found = interaction(whole, parts, seed=0)
    assert found is not None
    assert found.value == pytest.approx(1 / (g - 1))


@pytest.mark.parametrize(
    ("whole", "parts"),
    [
        (np.ones(5), np.ones((1, 5))),
        (np.zeros(5), np.ones((2, 5))),
        (np.array([0.1, 0.2, -0.3]), np.ones((2, 3))),  # sums to 5.6e-17: rounding, no damage
    ],
)
def test_interaction_needs_two_parts_and_an_effect(whole: np.ndarray, parts: np.ndarray) -> None:
    assert interaction(whole, parts, seed=0) is None


def test_an_interaction_has_no_bounds_if_the_effect_of_the_group_may_be_zero() -> None:
    whole = np.random.default_rng(1).normal(0.05, 1.0, 100)
    found = interaction(whole, np.stack([whole, whole]), seed=0)
    assert found is not None
    assert found.interval is None
    lone = interaction(np.ones(1), np.ones((2, 1)), seed=0)
    assert lone is not None
    assert lone.interval is None


def test_the_interval_of_an_interaction_holds_the_truth_95_times_in_100() -> None:
    """Known truth: whole 1, parts .5 and .9, independent noise."""
    from scipy.stats import binom

    rng = np.random.default_rng(2)
    truth = [1.0, 0.5, 0.9]
    covered = 0
    for seed in range(200):
        whole, *parts = rng.normal(truth, 0.5, (60, 3)).T
        found = interaction(whole, np.stack(parts), seed)
        assert found is not None
        assert found.interval is not None
        covered += found.interval[0] <= 1 - 1.4 <= found.interval[1]
    assert binom.ppf(0.001, 200, 0.94) <= covered <= binom.ppf(0.999, 200, 0.94)


@given(st.integers(2, 5), st.floats(0.1, 10), st.randoms(use_true_random=False))
def test_interaction_depends_on_no_order_and_no_scale(g: int, scale: float, r: Any) -> None:
    rng = np.random.default_rng(r.randrange(2**32))
    whole, parts = rng.normal(3, 1, 12), rng.normal(1, 1, (g, 12))
    examples, units = r.sample(range(12), 12), r.sample(range(g), g)
    found = interaction(whole, parts, 0)
    other = interaction(-scale * whole[examples], -scale * parts[units][:, examples], 0)
    assert found is not None
    assert other is not None
    assert other.value == pytest.approx(found.value, rel=1e-9, abs=1e-9)


# ----------------------------------------------------------------------------------------------------------------------
# Leave-one-out shares, sufficiency
# ----------------------------------------------------------------------------------------------------------------------


def test_leave_one_out_shares_of_independent_parts_are_their_own_effects() -> None:
    whole, _, without = decomposed(independent, 3)
    assert leave_one_out(whole, without) == pytest.approx((1 / 6, 2 / 6, 3 / 6))


def test_each_unit_of_a_redundant_pair_accounts_for_the_whole_effect() -> None:
    whole, _, without = decomposed(backup(size=2), 2)
    assert leave_one_out(whole, without) == (1, 1)


def test_a_bystander_and_a_link_of_a_chain_have_the_same_leave_one_out_share() -> None:
    """Without one link, the other still breaks the chain: necessity tells them apart (test_necessity.py)."""
    whole, _, without = decomposed(bystander, 3)
    assert leave_one_out(whole, without) == (0, 0, 0)


def test_a_group_that_does_nothing_has_no_shares() -> None:
    assert leave_one_out(np.zeros(4), np.ones((2, 4))) is None


@pytest.mark.parametrize("damage", [1, -1])
def test_sufficiency_is_one_if_no_other_unit_matters_and_zero_if_the_others_do_all_the_damage(damage: int) -> None:
    all_gone = damage * STRENGTH
    assert sufficiency(all_gone, np.zeros(50), damage) == 1
    assert sufficiency(all_gone, all_gone, damage) == 0
    assert sufficiency(all_gone, all_gone / 4, damage) == pytest.approx(0.75)
    assert sufficiency(all_gone, 2 * all_gone, damage) == pytest.approx(-1)


@pytest.mark.parametrize("damage", [1, -1])
def test_completeness_is_zero_for_a_chain_and_one_for_a_unit_with_a_backup(damage: int) -> None:
    """Of four units, ablating all of which does the damage of 0 and 1: a chain, or backups of each other."""
    for world, whole, one in ((chain, 0, 0), (backup(2), 0, 1)):
        of_all, of_both, of_one = (damage * world(units) for units in ((0, 1), (0, 1), (0,)))
        assert completeness(of_all, of_both, damage) == whole
        assert completeness(of_all, of_one, damage) == one
    assert completeness(np.zeros(5), np.zeros(5), damage) is None


@pytest.mark.parametrize("damage", [1, -1])
def test_sufficiency_is_undefined_where_ablating_everything_does_no_damage(damage: int) -> None:
    assert sufficiency(np.zeros(5), np.ones(5), damage) is None
    assert sufficiency(-damage * np.ones(5), np.ones(5), damage) is None


# ----------------------------------------------------------------------------------------------------------------------
# On input
# ----------------------------------------------------------------------------------------------------------------------

SPINS = np.array([[1, 1, -1], [1, -1, -1], [1, 1, 1], [-1, -1, -1]])


def test_activity_follows_the_rule() -> None:
    assert active(SPINS, "any").tolist() == [True, True, True, False]
    assert active(SPINS, "all").tolist() == [False, False, True, False]
    assert active(SPINS, "most_selective").tolist() == [False, False, True, False]
    assert active(SPINS[:, :2], "most_selective").tolist() == [True, False, True, False]


def test_activity_is_cut_at_each_members_own_mean() -> None:
    activity = np.array([[0.0, 10.0], [0.0, 11.0], [1.0, 10.0], [3.0, 10.0]])  # means 1 and 10.25
    assert active(activity, "any").tolist() == [False, True, False, True]


def test_members_with_equal_rates_of_activity_are_equally_selective() -> None:
    spins = np.array([[1, -1], [-1, 1], [-1, -1]])
    assert active(spins, "most_selective").tolist() == [True, True, False]
    assert active(spins[:, ::-1], "most_selective").tolist() == [True, True, False]


@pytest.mark.parametrize("rule", ["any", "all", "most_selective"])
def test_members_that_never_change_are_ignored(rule: Any) -> None:
    always_on = np.column_stack([SPINS, np.full(4, 0.1)])  # 0.1 is above the rounded mean of 0.1, 0.1, ...
    assert active(always_on, rule).tolist() == active(SPINS, rule).tolist()
    assert not active(always_on[:, 3:], rule).any()
    assert not active(always_on[:1], rule).any()
    assert active(always_on[:0], rule).tolist() == []


@given(st.integers(1, 4), st.integers(1, 9), st.randoms(use_true_random=False))
def test_active_depends_on_no_order(members: int, n: int, r: Any) -> None:
    values = np.random.default_rng(r.randrange(2**32)).integers(0, 3, (n, members))
    examples, units = r.sample(range(n), n), r.sample(range(members), members)
    for rule in ("any", "all", "most_selective"):
        assert active(values[examples][:, units], rule).tolist() == active(values, rule)[examples].tolist()
    assert (active(values, "most_selective") <= active(values, "any")).all()


def test_an_unknown_rule_and_activity_that_is_not_a_number_are_refused() -> None:
    with pytest.raises(HarnessError, match="any, all, most_selective"):
        active.__wrapped__(SPINS, "some")  # type: ignore[attr-defined]  # past the type check that tests run under
    with pytest.raises(HarnessError, match="NaN"):
        active(np.array([[0.0], [math.nan]]))


def test_the_on_input_test_uses_only_the_examples_where_the_group_is_active() -> None:
    rng = np.random.default_rng(3)
    deltas, controls = rng.normal(-2, 1, 40), rng.normal(0, 1, (19, 40))
    on = np.arange(40) < 15
    found = on_input(deltas, controls, on, damage=-1)
    here = controls[:, :15].mean(axis=1).tolist()
    assert found.n == 15
    assert found.delta == pytest.approx(deltas[:15].mean())
    assert found.controls == pytest.approx(here)
    assert found.z == pytest.approx(z_score(deltas[:15].mean(), here))
    assert found.p == p_value(deltas[:15].mean(), here, damage=-1) == 1 / 20
    assert found.off_input == pytest.approx(deltas[15:].mean())
    assert found.leakage == pytest.approx(deltas[15:].mean() / deltas[:15].mean())
    assert on_input(deltas, controls, on, damage=-1, ddof=0).z == pytest.approx(z_score(deltas[:15].mean(), here, 0))


def test_a_mechanism_that_is_rarely_used_fails_globally_and_passes_on_its_input() -> None:
    """Forty serial mechanisms of two units, each used on its own example.

    A true pair breaks one mechanism and two random units break two, so that every control does twice the damage; on
    the examples of the mechanism only the true pair does damage.
    """
    used = np.eye(40)

    def damage(*units: tuple[int, str]) -> np.ndarray:
        broken = {mechanism for mechanism, _ in units}
        return np.asarray(used[sorted(broken)].sum(axis=0))

    pair = damage((0, "first"), (0, "second"))
    controls = np.stack([damage((m, "first"), (m % 39 + 1, "second")) for m in range(1, 40)])
    assert p_value(pair.mean(), controls.mean(axis=1).tolist(), damage=1) == 1
    there = on_input(pair, controls, used[0] > 0, damage=1)
    assert (there.n, there.delta, there.p, there.off_input, there.leakage) == (1, 1, 1 / 40, 0, 0)
    whole = interaction(pair, np.stack([damage((0, "first")), damage((0, "second"))]), seed=0)
    assert whole is not None
    assert whole.value == -1


def test_a_group_that_is_never_active_has_no_numbers() -> None:
    found = on_input(np.ones(4), np.ones((3, 4)), np.zeros(4, dtype=bool), damage=1)
    assert found.n == 0
    assert found.controls == ()
    assert {found.delta, found.z, found.p, found.off_input, found.leakage} == {None}


def test_a_group_that_is_always_active_has_no_leakage() -> None:
    found = on_input(np.ones(4), np.zeros((3, 4)), np.ones(4, dtype=bool), damage=1)
    assert (found.n, found.delta, found.p) == (4, 1, 1 / 4)
    assert found.off_input is None
    assert found.leakage is None


def test_leakage_needs_damage_where_the_group_is_active() -> None:
    found = on_input(np.array([0.0, 0.0, 1.0]), np.zeros((3, 3)), np.array([True, True, False]), damage=1)
    assert (found.delta, found.off_input) == (0, 1)
    assert found.leakage is None


def test_the_on_input_test_has_no_p_without_controls() -> None:
    found = on_input(np.ones(4), np.ones((0, 4)), np.array([True, True, False, False]), damage=1)
    assert (found.delta, found.controls, found.z, found.p, found.off_input) == (1, (), None, None, 1)


def test_activity_of_other_examples_is_refused() -> None:
    with pytest.raises(HarnessError, match="activity was measured on 3 examples, damage on 4"):
        on_input.__wrapped__(np.ones(4), np.ones((3, 4)), np.ones(3, dtype=bool), 1)  # type: ignore[attr-defined]
