"""Controls: matched to the candidate, distinct, none of its own units, and every possible group equally likely."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2

from harness.closure.draw import draw_distinct
from harness.config import registry
from harness.errors import HarnessError
from harness.stages import ControlSets
from harness.units import UnitSpace


def draw(name: str, candidate: tuple[int, ...], units: UnitSpace, **parameters: int) -> ControlSets:
    controls: ControlSets = registry().get("controls", name).build(parameters)(candidate, units)
    return controls


def per_layer(group: tuple[int, ...], units: UnitSpace) -> Counter[int]:
    return Counter(int(units.layers[unit]) for unit in group)


@st.composite
def candidates(draw: st.DrawFn) -> tuple[UnitSpace, tuple[int, ...]]:
    """A small model and some of its units."""
    units = UnitSpace.heads(draw(st.lists(st.integers(1, 6), min_size=1, max_size=4)))
    chosen = draw(st.sets(st.integers(0, len(units) - 1), min_size=1))
    return units, tuple(sorted(chosen))


@given(candidates(), st.integers(0, 5), st.sampled_from(["layer_matched", "uniform"]))
def test_controls_are_distinct_groups_of_the_same_size_without_a_unit_of_the_candidate(
    made: tuple[UnitSpace, tuple[int, ...]], seed: int, name: str
) -> None:
    units, candidate = made
    groups = draw(name, candidate, units, n=7, seed=seed).groups
    assert len(groups) <= 7
    assert len({frozenset(group) for group in groups}) == len(groups)
    for group in groups:
        assert len(set(group)) == len(candidate)
        assert set(group).isdisjoint(candidate)
        assert all(0 <= unit < len(units) for unit in group)


@given(candidates())
def test_controls_exist_wherever_the_rest_of_the_model_is_large_enough(made: tuple[UnitSpace, tuple[int, ...]]) -> None:
    units, candidate = made
    for name in ("layer_matched", "uniform"):
        assert bool(draw(name, candidate, units, n=3).groups) == (2 * len(candidate) <= len(units))


@given(candidates())
def test_layer_matched_controls_have_as_many_units_in_each_layer_unless_one_is_short(
    made: tuple[UnitSpace, tuple[int, ...]],
) -> None:
    units, candidate = made
    drawn = draw("layer_matched", candidate, units, n=7)
    wanted = per_layer(candidate, units)
    for layer, missing in drawn.shortfall.items():
        assert missing == 2 * wanted[layer] - int((units.layers == layer).sum()) > 0
    for group in drawn.groups:
        found = per_layer(group, units)
        assert drawn.shortfall or found == wanted


def test_a_layer_with_too_few_units_left_is_matched_together_with_its_neighbours() -> None:
    units = UnitSpace.heads([4, 4, 4, 4, 4])
    candidate = units.find(["L0H0", "L2H0", "L2H1", "L2H2"])  # one head is left in layer 2
    drawn = draw("layer_matched", candidate, units, n=60)
    assert drawn.shortfall == {2: 2}
    found = [per_layer(group, units) for group in drawn.groups]
    assert len(found) == 60
    assert all(count[0] == 1 and count[1] + count[2] + count[3] == 3 and not count[4] for count in found)
    assert len({(count[1], count[2], count[3]) for count in found}) > 3, (
        "one fixed share would leave few distinct groups"
    )


def test_a_band_grows_until_it_holds_enough_distinct_groups() -> None:
    """Of layers 0 and 1 only two groups of 2 could be made beside the candidate; the band takes layer 2 as well."""
    units = UnitSpace.heads([2, 2, 2, 2])
    drawn = draw("layer_matched", units.find(["L0H0", "L0H1"]), units, n=6)
    assert drawn.shortfall == {0: 2}
    assert len(drawn.groups) == 6
    assert {layer for group in drawn.groups for layer in per_layer(group, units)} == {1, 2}


def test_bands_around_two_short_layers_stay_apart_where_they_can() -> None:
    units = UnitSpace.heads([3] * 7)
    candidate = units.find(["L1H0", "L1H1", "L5H0", "L5H1", "L5H2"])
    drawn = draw("layer_matched", candidate, units, n=9)
    assert drawn.shortfall == {1: 1, 5: 3}
    for count in (per_layer(group, units) for group in drawn.groups):
        assert count[0] + count[1] + count[2] == 2
        assert count[4] + count[5] + count[6] == 3


def test_matching_leaves_early_layers_out_where_the_candidate_has_none_there() -> None:
    units = UnitSpace.heads([8, 8])
    late = tuple(range(8, 11))
    assert all(min(group) >= 8 for group in draw("layer_matched", late, units, n=9).groups)
    assert any(min(group) < 8 for group in draw("uniform", late, units, n=9).groups)


@pytest.mark.parametrize("name", ["layer_matched", "uniform"])
def test_where_few_groups_are_possible_all_of_them_are_drawn(name: str) -> None:
    units = UnitSpace.heads([6])
    groups = draw(name, (0, 1), units, n=99).groups
    assert sorted(groups) == list(itertools.combinations((2, 3, 4, 5), 2))


@pytest.mark.parametrize("name", ["layer_matched", "uniform"])
def test_a_draw_is_decided_by_its_seed(name: str) -> None:
    units = UnitSpace.heads([16, 16])
    first, again, other = (draw(name, (0, 1, 17), units, n=9, seed=seed).groups for seed in (3, 3, 4))
    assert first == again != other


@pytest.mark.parametrize("name", ["layer_matched", "uniform"])
def test_no_control_is_drawn_where_none_fits(name: str) -> None:
    assert draw(name, (0, 1, 2), UnitSpace.heads([3, 2])).groups == ()


@pytest.mark.parametrize("name", ["layer_matched", "uniform"])
def test_asking_for_no_control_is_refused(name: str) -> None:
    with pytest.raises(HarnessError, match=r"controls\.n=0"):
        draw(name, (0,), UnitSpace.heads([3]), n=0)


def test_every_group_is_equally_likely() -> None:
    """Two pools, 6 x 10 = 60 possible groups, 5 drawn at a time: rejection, not a list; chi-square over 59 degrees."""
    pools = [((0, 1, 2, 3), 2), ((10, 11, 12, 13, 14), 3)]
    counts: Counter[tuple[int, ...]] = Counter()
    draws = 1200
    for seed in range(draws):
        counts.update(draw_distinct(pools, 5, np.random.default_rng(seed)))
    possible = math.comb(4, 2) * math.comb(5, 3)
    expected = draws * 5 / possible
    assert len(counts) == possible > 4 * 5
    statistic = sum((count - expected) ** 2 for count in counts.values()) / expected
    assert statistic < chi2.ppf(0.999, possible - 1)


def test_every_group_is_equally_likely_where_few_are_possible() -> None:
    counts: Counter[tuple[int, ...]] = Counter()
    for seed in range(1500):
        counts.update(draw_distinct([((0, 1, 2, 3, 4), 2)], 3, np.random.default_rng(seed)))
    assert len(counts) == 10 <= 4 * 3
    assert sum((count - 450) ** 2 for count in counts.values()) / 450 < chi2.ppf(0.999, 9)
