"""Profiles, the controls drawn by them, and groups that cannot be ablated together."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2

from harness.closure.cases import cases_of
from harness.closure.comparison import Comparison
from harness.data.grouping import Labels
from harness.data.profile import SMALLEST_BIN, Profile
from harness.data.sampling import from_pools
from harness.data.units import Unit, UnitSpace
from harness.util.errors import HarnessError
from tests.unit.worlds import World, build, results_of, trial_of


def space(sizes: Sequence[int], family: str = "mlp", at_most: int | None = None) -> UnitSpace:
    """A site of this size at every depth."""
    units = tuple(Unit(f"{family}{d}.{i}", f"{family}{d}", d, family) for d, n in enumerate(sizes) for i in range(n))
    sites = {unit.site for unit in units}
    return UnitSpace(units, dict.fromkeys(sites, at_most) if at_most else {})


def cells(profile: Profile) -> list[set[int]]:
    return [set(np.flatnonzero(profile.cells == cell).tolist()) for cell in range(len(profile.names))]


# -- partitions --------------------------------------------------------------------------------------------------------


def test_a_profile_by_site_has_a_cell_for_every_site() -> None:
    profile = Profile.by_site(UnitSpace.heads([2, 3]))
    assert profile.names == ("L0.attn", "L1.attn")
    assert profile.cells.tolist() == [0, 0, 1, 1, 1]
    assert profile.counts((0, 2, 4)) == {0: 1, 1: 2}
    assert profile.pools((4, 2)) == [(2, 3, 4)]


def test_depth_bands_are_equal_parts_of_the_depths_of_each_family() -> None:
    mlps, heads = space([1] * 7), UnitSpace.heads([2, 2])
    units = UnitSpace(mlps.units + heads.units)
    profile = Profile.by_depth_band(units, 3)
    expected = [{0, 1, 2}, {3, 4}, {5, 6}, {7, 8}, {9, 10}]  # heads have two depths, so two bands
    assert sorted(map(sorted, cells(profile))) == sorted(map(sorted, expected))
    assert "mlp at depths 0 to 2" in profile.names


def test_sites_of_one_depth_are_in_one_band() -> None:
    units = UnitSpace(tuple(Unit(f"{site}{d}", f"{site}{d}", d, "layer") for d in range(4) for site in ("in", "out")))
    assert cells(Profile.by_depth_band(units, 2)) == [{0, 1, 2, 3}, {4, 5, 6, 7}]


def test_bins_are_equal_parts_of_the_ranks_within_a_site() -> None:
    units = space([32, 16, 10])
    usage = np.concatenate([np.arange(32.0), np.arange(16.0)[::-1], np.arange(10.0)])
    expected = [set(range(8 * i, 8 * i + 8)) for i in range(4)]  # four bins of 8
    expected += [set(range(40, 48)), set(range(32, 40)), set(range(48, 58))]  # two bins, one bin
    found = cells(Profile.by_bin(units, usage, 4))
    assert sorted(map(sorted, found)) == sorted(map(sorted, expected))


def test_smaller_bins_match_usage_at_sites_of_eight_units() -> None:
    """Experts: the four that are used least, and the four that are used most, of each layer."""
    units, usage = space([8, 8]), np.array([*range(8), *range(100, 108)], dtype=float)
    assert cells(Profile.by_bin(units, usage, 4)) == [set(range(8)), set(range(8, 16))]
    found = cells(Profile.by_bin(units, usage, 4, smallest=4))
    assert found == [{0, 1, 2, 3}, {4, 5, 6, 7}, {8, 9, 10, 11}, {12, 13, 14, 15}]


def test_bins_of_a_family_match_usage_across_sites() -> None:
    units, usage = space([4, 4]), np.array([1.0, 2, 11, 12, 3, 4, 13, 14])
    assert cells(Profile.by_bin(units, usage, 2, smallest=4, within="family")) == [{0, 1, 4, 5}, {2, 3, 6, 7}]
    both = UnitSpace(units.units + UnitSpace.heads([8]).units)
    by_family = Profile.by_bin(both, np.arange(16.0), 1, within="family")
    assert sorted(by_family.names) == ["head, bin 0", "mlp, bin 0"]


def test_units_of_equal_usage_share_a_bin() -> None:
    usage = np.array([0.0] * 20 + [0.5] * 12)
    assert cells(Profile.by_bin(space([32]), usage, 4)) == [set(range(20)), set(range(20, 32))]
    assert cells(Profile.by_bin(space([32]), np.ones(32), 4)) == [set(range(32))]


def test_classes_are_cells_and_units_without_a_label_are_one() -> None:
    labels = Labels(("a", None, "b", "a", None), UnitSpace.heads([5]))
    assert cells(Profile.by_class(labels)) == [{0, 3}, {1, 4}, {2}]


@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
def test_a_profile_does_not_depend_on_the_order_of_units(seed: int, parts: int) -> None:
    rng = np.random.default_rng(seed)
    units, usage = space([20, 9, 1, 17]), rng.integers(0, 4, 47) / 4
    order = rng.permutation(len(units))
    other = units.reordered(order)
    for first, second in (
        (Profile.by_bin(units, usage, parts), Profile.by_bin(other, usage[order], parts)),
        (Profile.by_depth_band(units, parts), Profile.by_depth_band(other, parts)),
    ):
        assert first.names == second.names
        np.testing.assert_array_equal(first.cells[order], second.cells)


# -- groups that are compared ------------------------------------------------------------------------------------------

TESTS = ("exact", "disjoint")


def compared(
    name: str,
    candidate: tuple[int, ...],
    units: UnitSpace,
    usage: np.ndarray | None = None,
    test: Any = "disjoint",
    **parameters: Any,
) -> Comparison:
    """The groups that a trial compares the candidate with; 99 unless said otherwise."""
    trial = trial_of(
        units,
        lambda _: 0.0,
        test=test,
        controls=build("controls", name, **{"n": 99, **parameters}),
        labels=Labels(tuple("ab"[unit % 2] for unit in range(len(units))), units),
        strength=np.random.default_rng(0).random(len(units)),
        usage=np.random.default_rng(1).random(len(units)) if usage is None else usage,
    )
    return trial.comparison(candidate)


@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_controls_have_the_profile_of_the_candidate(seed: int, parts: int) -> None:
    rng = np.random.default_rng(seed)
    units, usage = space([24, 40, 1, 16]), rng.integers(0, 9, 81) / 9
    candidate = tuple(sorted(rng.choice(81, 4, replace=False).tolist()))
    strength = np.random.default_rng(0).random(81)
    labels = Labels(tuple("ab"[unit % 2] for unit in range(81)), units)
    for name, chosen, profile in (
        ("usage_matched", {"bins": parts}, Profile.by_bin(units, usage, parts)),
        ("depth_band", {"bands": parts}, Profile.by_depth_band(units, parts)),
        ("layer_and_activity_matched", {"bins": parts}, Profile.by_bin(units, strength, parts)),
        ("layer_matched", {}, Profile.by_site(units)),
        ("class_matched", {}, Profile.by_class(labels)),
    ):
        for test in TESTS if name in ("usage_matched", "depth_band") else ("exact",):
            drawn = compared(name, candidate, units, usage, test, n=20, **chosen).groups
            assert len(drawn) == len(set(drawn))
            assert candidate not in drawn
            for group in drawn:
                assert profile.counts(group) == profile.counts(candidate)
                assert test == "exact" or set(group).isdisjoint(candidate)


def test_all_groups_of_a_band_are_drawn() -> None:
    """Twelve MLP layers in three bands of four: two early and one late layer leave 1 x 3 groups; two apart, 3 x 3."""
    units = space([1] * 12)
    assert set(compared("depth_band", (0, 1, 8), units).groups) == {(2, 3, late) for late in (9, 10, 11)}
    assert len(compared("depth_band", (0, 8), units).groups) == 9
    assert compared("depth_band", (0, 1), units, bands=4).groups == ()
    assert len(compared("depth_band", (0, 1, 8), units, test="exact").groups) == 6 * 4 - 1
    assert len(compared("depth_band", (0, 8), units, test="exact").groups) == 4 * 4 - 1


def test_bins_of_usage_change_the_controls_of_rare_units() -> None:
    """A dead unit is compared with dead units only."""
    units, usage = space([32]), np.array([0.0] * 10 + [0.1 * i for i in range(1, 23)])
    groups = compared("usage_matched", (0, 1), units, usage).groups
    assert {unit for group in groups for unit in group} == set(range(2, 10))
    assert len(groups) == math.comb(8, 2)
    groups = compared("usage_matched", (0, 1), units, usage, test="exact").groups
    assert {unit for group in groups for unit in group} == set(range(10))
    assert len(groups) == math.comb(10, 2) - 1


def test_small_sites_are_matched_as_a_whole() -> None:
    units, usage = space([2 * SMALLEST_BIN - 1] * 2), np.linspace(0, 1, 4 * SMALLEST_BIN - 2)
    for test in TESTS:
        by_usage, by_site = (compared(name, (0, 17), units, usage, test) for name in ("usage_matched", "layer_matched"))
        assert len(by_usage.groups) == len(by_site.groups) == 99
        assert test == "exact" or by_usage.groups == by_site.groups


# -- units that cannot be ablated together -----------------------------------------------------------------------------


@pytest.mark.parametrize("listed", [4096, 0])
@pytest.mark.parametrize(
    "name", ["class_matched", "depth_band", "layer_and_activity_matched", "layer_matched", "uniform", "usage_matched"]
)
def test_groups_that_cannot_be_ablated_together_are_not_drawn(
    name: str, listed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.data.sampling.LISTED", listed)
    monkeypatch.setattr("harness.closure.pool.LISTED", listed)
    units = space([5, 5, 5, 5], at_most=1)
    for test in TESTS:
        groups = compared(name, (0, 6, 12), units, test=test, n=30).groups
        assert groups
        assert all(units.allows(group) for group in groups)


@pytest.mark.parametrize("listed", [4096, 0])
def test_every_group_that_can_be_ablated_together_is_equally_likely(
    listed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two units of three sites of three, without the candidate's: 12 of 21 pairs."""
    monkeypatch.setattr("harness.data.sampling.LISTED", listed)
    units = space([3, 3, 3], at_most=1)
    allowed = {pair for pair in itertools.combinations(range(1, 9), 2) if units.allows(pair) and 4 not in pair}
    counts = Counter(g for seed in range(1200) for g in from_pools((0, 4), [range(9)], units, 4, seed).groups)
    assert set(counts) == allowed
    expected = counts.total() / len(counts)
    assert sum((n - expected) ** 2 for n in counts.values()) / expected < chi2.ppf(0.999, len(counts) - 1)
    assert set(from_pools((0, 4), [range(9)], units, 99, 0).groups) == allowed


def test_whole_sites_that_cannot_be_ablated_are_left_out_of_a_report() -> None:
    units = space([6, 6], at_most=1)
    trial = trial_of(units, lambda group: float(sum(group)), n=8, futility=None, alpha=0.5)
    [case] = cases_of([(0, 7)], trial)
    assert (case.site_units, case.all_units, case.complement) == (None, None, None)
    [result] = results_of(trial, (0, 7))
    assert isinstance(trial.evaluate, World)
    assert all(units.allows(group) for group in trial.evaluate.evaluated)
    assert result.report.site_ablation == {}
    assert result.report.anatomy["score"].sufficiency is None
    assert result.report.anatomy["score"].leave_one_out is not None


def test_more_units_of_a_site_than_can_be_ablated_together_are_refused() -> None:
    units = space([6, 6], at_most=1)
    with pytest.raises(HarnessError, match=r"mlp0\.0, mlp0\.1: these units cannot be ablated together; .*1 of mlp0"):
        cases_of([(0, 1)], trial_of(units, lambda _: 0.0))


@pytest.mark.parametrize("test", TESTS)
@pytest.mark.parametrize(
    ("name", "lacking"),
    [("usage_matched", "usage"), ("layer_and_activity_matched", "strength"), ("class_matched", "labels")],
)
def test_controls_that_need_a_property_of_the_units_say_so(test: Any, name: str, lacking: str) -> None:
    trial = trial_of(UnitSpace.heads([4]), lambda _: 0.0, controls=build("controls", name), test=test)
    with pytest.raises(HarnessError, match=f"controls {name} need {lacking} of the units, and this trial has none"):
        trial.comparison((0, 1))


def test_a_pool_of_the_candidates_layers_is_no_partition() -> None:
    """It depends on the candidate: only the former test can use it."""
    units = space([6, 6])
    with pytest.raises(HarnessError, match="no partition that is fixed before the test"):
        compared("uniform", (0, 1), units, test="exact", pool="layers")
    assert compared("uniform", (0, 1), units, pool="layers").groups
