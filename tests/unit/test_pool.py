"""Pools: the groups of a profile, all or some, in an order that depends on the seed and the profile alone."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2

from harness.closure.cases import cases_of
from harness.closure.pool import DRAWN, LISTED, Pool
from harness.data.profile import Profile
from harness.data.sampling import Group
from harness.data.units import Unit, UnitSpace
from tests.unit.worlds import build, trial_of

FEW, MANY = UnitSpace.heads([8, 8]), UnitSpace.heads([30, 30])
"""Of profile 2 + 1: 224 groups, and 13 050."""


def pool_of(units: UnitSpace, candidate: Group, n: int = DRAWN, seed: int = 0) -> Pool:
    profile = Profile.by_site(units)
    return Pool.of(profile, profile.counts(candidate), units, n, seed)


def groups_for(candidate: Group, units: UnitSpace, n: int | None = None, seed: int = 0) -> tuple[Group, ...]:
    """The groups that a trial compares a candidate with."""
    controls = build("controls", "layer_matched", n=n, seed=seed)
    return trial_of(units, lambda _: 0.0, controls=controls).comparison(candidate).groups


def alike(counts: Counter[Any]) -> bool:
    """Chi-square of equally likely outcomes, at the 0.1 % point."""
    expected = counts.total() / len(counts)
    return bool(sum((n - expected) ** 2 for n in counts.values()) / expected < chi2.ppf(0.999, len(counts) - 1))


# -- which groups ------------------------------------------------------------------------------------------------------


def test_all_groups_of_a_profile_are_listed_up_to_2000() -> None:
    pool = pool_of(FEW, (0, 7, 10))
    expected = {(*pair, other) for pair in itertools.combinations(range(8), 2) for other in range(8, 16)}
    assert len(pool.groups) == pool.possible == len(expected) == 224
    assert set(pool.groups) == expected
    assert pool.profile == {"L0.attn": 2, "L1.attn": 1}


@pytest.mark.parametrize(("heads", "listed"), [(63, True), (64, False)])
def test_of_more_than_2000_groups_199_are_drawn(heads: int, listed: bool) -> None:
    """Pairs of 63 heads: 1953. Of 64: 2016."""
    possible = math.comb(heads, 2)
    assert (possible <= LISTED) is listed
    found = groups_for((0, 1), UnitSpace.heads([heads]))
    assert len(found) == len(set(found)) == (possible - 1 if listed else 199)


def test_only_the_candidate_itself_is_left_out_and_others_may_overlap_it() -> None:
    candidate = (0, 7, 10)
    found = groups_for(candidate, FEW)
    assert len(found) == 223
    assert candidate not in found
    assert sum(len({*candidate} & {*group}) == 2 for group in found) == 6 * 2 + 7  # one unit is another one
    assert candidate not in groups_for((7, 10, 0), FEW)  # in any order of members


@given(st.lists(st.integers(2, 9), min_size=1, max_size=3), st.data())
def test_groups_have_the_profile_and_as_many_exist_as_said(heads: list[int], data: st.DataObject) -> None:
    units = UnitSpace.heads(heads)
    candidate = tuple(sorted(data.draw(st.sets(st.integers(0, len(units) - 1), min_size=1, max_size=5))))
    pool = pool_of(units, candidate)
    profile = Profile.by_site(units)
    per_site = Counter(units.units[unit].site for unit in candidate)
    assert pool.possible == math.prod(math.comb(len(units.at_sites([site])), k) for site, k in per_site.items())
    assert len(set(pool.groups)) == len(pool.groups) == (pool.possible if pool.possible <= LISTED else DRAWN)
    for group in pool.groups:
        assert profile.counts(group) == profile.counts(candidate)
        assert len(set(group)) == len(candidate)


def test_an_explicit_number_of_groups_is_taken_of_few_and_of_many() -> None:
    assert len(groups_for((0, 7, 10), FEW, n=50)) == 50
    assert len(groups_for((0, 7, 10), FEW, n=999)) == 223
    assert len(groups_for((0, 7, 40), MANY, n=999)) == 999


def test_a_whole_site_has_nothing_to_be_compared_with() -> None:
    assert groups_for(tuple(range(8)), FEW) == ()


# -- their order -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("listed", [LISTED, 0])
def test_every_group_is_equally_likely_at_every_place(listed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 5 x 3 groups, listed in random order or drawn."""
    monkeypatch.setattr("harness.closure.pool.LISTED", listed)
    units = UnitSpace.heads([5, 3])
    orders = [pool_of(units, (0, 5), n=15, seed=seed).groups for seed in range(900)]
    for place in (0, 1, 14):
        counts = Counter(order[place] for order in orders)
        assert len(counts) == 15
        assert alike(counts)


@pytest.mark.parametrize("units", [FEW, MANY])
@given(few=st.integers(1, 60), more=st.integers(0, 60))
def test_a_larger_draw_begins_with_the_smaller_one(units: UnitSpace, few: int, more: int) -> None:
    assert groups_for((0, 7, 45 % len(units)), units, few + more)[:few] == groups_for(
        (0, 7, 45 % len(units)), units, few
    )


@pytest.mark.parametrize("sizes", [[8, 8], [30, 30], [6, 12, 11]])
@given(order=st.randoms(use_true_random=False))
def test_the_order_of_units_changes_nothing(sizes: list[int], order: Any) -> None:
    units = UnitSpace.heads(sizes)
    moved = units.reordered(order.sample(range(len(units)), len(units)))
    candidate = ["L0H0", "L0H5", "L1H2"]
    straight = [sorted(units.names(group)) for group in groups_for(units.find(candidate), units)]
    assert [sorted(moved.names(group)) for group in groups_for(moved.find(candidate), moved)] == straight


def test_the_seed_and_the_profile_determine_the_order() -> None:
    assert pool_of(MANY, (0, 1, 40)) == pool_of(MANY, (4, 7, 31))
    assert pool_of(MANY, (0, 1, 40), seed=1).groups != pool_of(MANY, (0, 1, 40)).groups
    assert pool_of(FEW, (0, 1, 10), seed=1).groups != pool_of(FEW, (0, 1, 10)).groups


@pytest.mark.parametrize("units", [FEW, MANY])
def test_all_candidates_of_a_profile_share_one_pool(units: UnitSpace) -> None:
    """Each is compared with its first groups; it leaves out itself, and the next one takes that place."""
    shared = pool_of(units, (0, 1, len(units) - 1), n=DRAWN + 1)
    for candidate in (shared.groups[0], shared.groups[150], shared.groups[-1]):
        n = 223 if units is FEW else DRAWN
        assert groups_for(candidate, units) == tuple(group for group in shared.groups if group != candidate)[:n]


def test_candidates_of_one_cell_keep_the_pool_of_a_cell_of_their_own() -> None:
    trial = trial_of(MANY, lambda _: 0.0)
    candidates = [(0, 1, 40), (2, 3, 41), (4, 5, 42)]
    together = [case.comparison.groups for case in cases_of(candidates, trial)]
    assert together == [groups_for(candidate, MANY) for candidate in candidates]


@pytest.mark.parametrize("units", [FEW, MANY])
def test_more_than_three_candidates_are_left_out_of_the_pools_of_the_others(units: UnitSpace) -> None:
    """The next groups of the pool take their places."""
    pool = pool_of(units, (0, 1, len(units) - 1), n=DRAWN + 5)
    candidates = [pool.groups[place] for place in (0, 3, 9, 100)]
    for case in cases_of(candidates, trial_of(units, lambda _: 0.0)):
        assert set(case.comparison.groups).isdisjoint(candidates)
        kept = [group for group in pool.groups if group not in candidates]
        assert list(case.comparison.groups) == kept[: DRAWN if units is MANY else 220]
    few = cases_of(candidates[:3], trial_of(units, lambda _: 0.0))
    assert all(candidates[1] in case.comparison.groups for case in (few[0], few[2]))


# -- units that cannot be ablated together -----------------------------------------------------------------------------


def routers(sizes: Sequence[int], at_most: int) -> UnitSpace:
    units = tuple(Unit(f"r{d}.{i}", f"r{d}", d, "source") for d, n in enumerate(sizes) for i in range(n))
    return UnitSpace(units, dict.fromkeys({unit.site for unit in units}, at_most))


@pytest.mark.parametrize("listed", [LISTED, 0])
def test_only_groups_that_can_be_ablated_together_are_in_a_pool(listed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two units of three sites of three, at most one of a site: 27 of 36 pairs, each equally likely."""
    monkeypatch.setattr("harness.closure.pool.LISTED", listed)
    units = routers([3, 3, 3], 1)
    everywhere = Profile.of(units, ["all"] * 9)
    allowed = {pair for pair in itertools.combinations(range(9), 2) if units.allows(pair)}
    orders = [Pool.of(everywhere, {0: 2}, units, 5, seed).groups for seed in range(600)]
    assert {group for order in orders for group in order} == allowed
    assert alike(Counter(order[0] for order in orders))
    assert set(Pool.of(everywhere, {0: 2}, units, 36, 0).groups) == allowed


def test_drawing_ends_where_too_few_groups_can_be_ablated_together() -> None:
    """None of 2556 pairs."""
    units = routers([72], 1)
    profile = Profile.by_site(units)
    assert Pool.of(profile, {0: 2}, units, 3, 0).groups == ()
