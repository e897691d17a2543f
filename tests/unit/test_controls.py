"""The former test's controls are matched to the candidate, distinct, disjoint from it, and every possible group is
equally likely."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, chi2, rankdata
from scipy.stats import norm as normal
from scipy.stats import t as student

from harness.closure.comparison import Comparison
from harness.closure.statistics import inflated, p_value
from harness.data.grouping import Labels
from harness.data.sampling import Windows, from_pools, from_windows, inflation
from harness.data.units import UnitSpace
from harness.util.errors import HarnessError
from tests.unit.worlds import build, trial_of

EVERY = ["uniform", "layer_matched", "layer_and_activity_matched", "class_matched"]
CLASSES: tuple[str | None, ...] = ("induction", "self", None)


def places(units: UnitSpace) -> list[tuple[int, int]]:
    """Layer and head of every unit, by its label."""
    return [(int(layer), int(head)) for layer, head in (label[1:].split("H") for label in units.labels)]


def strength_of(units: UnitSpace) -> np.ndarray:
    """Positive, different for every unit, and independent of the order of units."""
    return np.array([np.random.default_rng(place).gamma(2.0) for place in places(units)])


def labels_of(units: UnitSpace) -> Labels:
    """Two classes and unknown units, unrelated to layers and strength; the first unit has a class."""
    return Labels(tuple(CLASSES[(head + 2 * layer) % 3] for layer, head in places(units)), units)


def draw(
    name: str,
    candidate: tuple[int, ...],
    units: UnitSpace,
    strength: np.ndarray | None = None,
    labels: Labels | None = None,
    **parameters: int | str,
) -> Comparison:
    """As a trial draws them; 99 unless said otherwise."""
    trial = trial_of(
        units,
        lambda _: 0.0,
        test="disjoint",
        controls=build("controls", name, **{"n": 99, **parameters}),
        strength=strength_of(units) if strength is None else strength,
        labels=labels or labels_of(units),
    )
    return trial.comparison(candidate)


def per_layer(group: tuple[int, ...], units: UnitSpace) -> Counter[int]:
    return Counter(int(units.depth_of[unit]) for unit in group)


@st.composite
def candidates(draw: st.DrawFn) -> tuple[UnitSpace, tuple[int, ...]]:
    """A small model and some of its units."""
    units = UnitSpace.heads(draw(st.lists(st.integers(1, 6), min_size=1, max_size=4)))
    chosen = draw(st.sets(st.integers(0, len(units) - 1), min_size=1))
    return units, tuple(sorted(chosen))


@given(candidates(), st.integers(0, 5), st.sampled_from(EVERY))
def test_controls_are_distinct_groups_of_the_same_size_without_a_unit_of_the_candidate(
    drawn_case: tuple[UnitSpace, tuple[int, ...]], seed: int, name: str
) -> None:
    units, candidate = drawn_case
    groups = draw(name, candidate, units, n=7, seed=seed).groups
    assert len(groups) <= 7
    assert len({frozenset(group) for group in groups}) == len(groups)
    for group in groups:
        assert len(set(group)) == len(candidate)
        assert set(group).isdisjoint(candidate)
        assert all(0 <= unit < len(units) for unit in group)


@given(candidates())
def test_controls_exist_wherever_the_rest_of_the_model_is_large_enough(
    drawn_case: tuple[UnitSpace, tuple[int, ...]],
) -> None:
    units, candidate = drawn_case
    for name in EVERY:
        assert bool(draw(name, candidate, units, n=3).groups) == (2 * len(candidate) <= len(units))


@given(candidates(), st.sampled_from(["layer_matched", "layer_and_activity_matched"]))
def test_layer_matched_controls_have_as_many_units_in_each_layer_unless_one_is_short(
    drawn_case: tuple[UnitSpace, tuple[int, ...]], name: str
) -> None:
    units, candidate = drawn_case
    drawn = draw(name, candidate, units, n=7)
    wanted = per_layer(candidate, units)
    for site, missing in drawn.shortfall.items():
        inside = units.at_sites([site])
        assert missing == 2 * len(set(inside) & set(candidate)) - len(inside) > 0
    for group in drawn.groups:
        found = per_layer(group, units)
        assert drawn.shortfall or found == wanted


@given(candidates(), st.sampled_from(EVERY), st.randoms(use_true_random=False))
def test_controls_do_not_depend_on_the_order_of_units(
    drawn_case: tuple[UnitSpace, tuple[int, ...]], name: str, random: Random
) -> None:
    units, candidate = drawn_case
    shuffled = UnitSpace(tuple(random.sample(units.units, len(units))))
    straight = [sorted(units.names(group)) for group in draw(name, candidate, units, n=9).groups]
    moved = draw(name, shuffled.find(units.names(candidate)), shuffled, n=9).groups
    assert [sorted(shuffled.names(group)) for group in moved] == straight


@pytest.mark.parametrize("name", ["layer_matched", "layer_and_activity_matched"])
def test_a_layer_with_too_few_units_left_is_matched_together_with_its_neighbours(name: str) -> None:
    units = UnitSpace.heads([4, 4, 4, 4, 4])
    candidate = units.find(["L0H0", "L2H0", "L2H1", "L2H2"])  # one head is left in layer 2
    drawn = draw(name, candidate, units, n=60)
    assert drawn.shortfall == {"L2.attn": 2}
    found = [per_layer(group, units) for group in drawn.groups]
    assert len(found) == 60
    assert all(count[0] == 1 and count[1] + count[2] + count[3] == 3 and not count[4] for count in found)
    assert len({(count[1], count[2], count[3]) for count in found}) > 3, (
        "one fixed share would leave few distinct groups"
    )


def test_a_band_grows_until_it_holds_enough_distinct_groups() -> None:
    """Layers 0 and 1 allow only two groups of 2 besides the candidate, so the band includes layer 2."""
    units = UnitSpace.heads([2, 2, 2, 2])
    drawn = draw("layer_matched", units.find(["L0H0", "L0H1"]), units, n=6)
    assert drawn.shortfall == {"L0.attn": 2}
    assert len(drawn.groups) == 6
    assert {layer for group in drawn.groups for layer in per_layer(group, units)} == {1, 2}


def test_bands_around_two_short_layers_stay_separate_if_possible() -> None:
    units = UnitSpace.heads([3] * 7)
    candidate = units.find(["L1H0", "L1H1", "L5H0", "L5H1", "L5H2"])
    drawn = draw("layer_matched", candidate, units, n=9)
    assert drawn.shortfall == {"L1.attn": 1, "L5.attn": 3}
    for count in (per_layer(group, units) for group in drawn.groups):
        assert count[0] + count[1] + count[2] == 2
        assert count[4] + count[5] + count[6] == 3


def test_matching_omits_early_layers_without_units_of_the_candidate() -> None:
    units = UnitSpace.heads([8, 8])
    late = tuple(range(8, 11))
    assert all(min(group) >= 8 for group in draw("layer_matched", late, units, n=9).groups)
    assert any(min(group) < 8 for group in draw("uniform", late, units, n=9).groups)


@pytest.mark.parametrize("name", ["layer_matched", "layer_and_activity_matched", "uniform"])
def test_all_possible_groups_are_drawn_if_they_are_few(name: str) -> None:
    units = UnitSpace.heads([6])
    groups = draw(name, (0, 1), units, n=99).groups
    assert sorted(groups) == list(itertools.combinations((2, 3, 4, 5), 2))


@pytest.mark.parametrize("name", EVERY)
def test_the_seed_determines_the_draw(name: str) -> None:
    units = UnitSpace.heads([16, 16])
    first, again, other = (draw(name, (0, 1, 17), units, n=9, seed=seed).groups for seed in (3, 3, 4))
    assert first == again != other


@pytest.mark.parametrize("name", EVERY)
def test_no_control_is_drawn_if_no_group_fits(name: str) -> None:
    assert draw(name, (0, 1, 2), UnitSpace.heads([3, 2])).groups == ()


@pytest.mark.parametrize("name", EVERY)
def test_asking_for_no_control_is_refused(name: str) -> None:
    with pytest.raises(HarnessError, match=r"controls\.n=0"):
        draw(name, (0,), UnitSpace.heads([3]), n=0)


# ----------------------------------------------------------------------------------------------------------------------
# uniform
# ----------------------------------------------------------------------------------------------------------------------


def test_uniform_controls_may_come_from_the_candidates_layers_only() -> None:
    """The published pool of the first test: the other 11 of 16 heads of layer 0."""
    units = UnitSpace.heads([16] * 4)
    candidate = units.find(["L0H0", "L0H1", "L0H2", "L0H10", "L0H13"])
    groups = draw("uniform", candidate, units, pool="layers").groups
    assert len(groups) == 99
    assert set(itertools.chain(*groups)) == set(range(16)) - set(candidate)


def test_a_pool_of_the_candidates_layers_is_not_matched_layer_by_layer() -> None:
    units = UnitSpace.heads([6, 6, 6])
    found = {
        tuple(sorted(per_layer(group, units).items())) for group in draw("uniform", (0, 6), units, pool="layers").groups
    }
    assert found == {((0, 2),), ((1, 2),), ((0, 1), (1, 1))}


def test_an_unknown_pool_is_refused() -> None:
    with pytest.raises(HarnessError, match="pool"):
        draw("uniform", (0,), UnitSpace.heads([3]), pool="nowhere")


# ----------------------------------------------------------------------------------------------------------------------
# layer_and_activity_matched
# ----------------------------------------------------------------------------------------------------------------------


def test_a_unit_is_replaced_by_those_nearest_in_rank_of_strength() -> None:
    """The fourth of eight by strength: its 2 nearest are the third and the fifth; two tie as the third nearest."""
    units, strength = UnitSpace.heads([8]), np.array([1.0, 2, 4, 8, 16, 32, 64, 128])
    for n, expected in ((2, {2, 4}), (3, {1, 2, 4, 5}), (4, {1, 2, 4, 5}), (5, {0, 1, 2, 4, 5, 6})):
        stand_ins = {
            draw("layer_and_activity_matched", (3,), units, strength, n=n, neighbours=2, seed=seed).groups
            for seed in range(12)
        }
        assert {unit for groups in stand_ins for group in groups for unit in group} == expected
        assert all(len(groups) == n for groups in stand_ins)


def test_controls_are_as_strong_as_the_candidate_layer_by_layer() -> None:
    """On a planted gradient, three times nearer in rank than layer-matched controls are."""
    units = UnitSpace.heads([16] * 6)
    strength = np.array([100.0 / (1 + layer) * 1.3**head for layer, head in places(units)])
    candidate = units.find([f"L{layer}H{head}" for layer in (0, 2, 3, 5) for head in (9, 13)])
    rank = np.concatenate([rankdata(strength[units.depth_of == layer]) for layer in range(6)])

    def distance(name: str) -> float:
        off = []
        for group in draw(name, candidate, units, strength).groups:
            for layer in (0, 2, 3, 5):
                pair = (
                    [rank[unit] for unit in members if units.depth_of[unit] == layer] for members in (candidate, group)
                )
                off.append(np.abs(np.subtract(*map(sorted, pair))).mean())
        return float(np.mean(off))

    assert distance("layer_and_activity_matched") * 3 < distance("layer_matched")


def test_strength_is_matched_as_closely_as_enough_distinct_groups_allow() -> None:
    """One unit in each of four layers: 3 replacements for each give 81 groups, 4 give 256."""
    units = UnitSpace.heads([12] * 4)
    strength = np.arange(48.0)
    candidate = units.find(["L0H0", "L1H0", "L2H0", "L3H0"])
    for n, farthest in ((81, 3), (82, 4)):
        groups = draw("layer_and_activity_matched", candidate, units, strength, n=n).groups
        assert len(set(groups)) == n
        assert max(unit % 12 for group in groups for unit in group) == farthest


def test_units_of_equal_strength_are_equally_likely_replacements() -> None:
    units = UnitSpace.heads([6, 3])
    groups = draw("layer_and_activity_matched", (0, 1), units, np.ones(9)).groups
    assert sorted(groups) == sorted(draw("layer_matched", (0, 1), units).groups)


@given(st.integers(0, 2**32 - 1), st.integers(1, 7), st.integers(1, 4))
def test_groups_from_windows_are_all_groups_that_can_be_assigned_to_them(seed: int, size: int, count: int) -> None:
    """Compared with an enumeration of all ordered groups."""
    rng = np.random.default_rng(seed)
    lows, highs = np.sort(rng.integers(0, size, (2, count)), axis=1)
    windows = Windows(tuple(range(10, 10 + size)), tuple(lows.tolist()), tuple((np.maximum(lows, highs) + 1).tolist()))
    wanted = {
        tuple(sorted(dealt))
        for dealt in itertools.product(*(windows.pool[a:b] for a, b in zip(windows.lows, windows.highs, strict=True)))
        if len(set(dealt)) == count
    }
    found = [tuple(sorted(windows.group(number))) for number in range(windows.possible)]
    assert len(found) == len(wanted)
    assert set(found) == wanted


@pytest.mark.unchecked  # thousands of draws
@pytest.mark.parametrize("listed", [0, 4096])
def test_every_group_from_windows_is_equally_likely(listed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.data.sampling.LISTED", listed)
    parts = [Windows((0, 1, 2, 3, 4), (0, 1, 2), (3, 4, 5)), Windows((7, 8, 9), (0,), (3,))]
    units = UnitSpace.heads([10])
    counts = Counter(g for seed in range(1500) for g in from_windows(parts, units, 4, seed).groups)
    assert len(counts) == parts[0].possible * 3
    assert alike(counts)


def test_controls_are_drawn_even_if_the_number_of_groups_overflows() -> None:
    units = UnitSpace.heads([200, 200])
    candidate = tuple(range(0, 400, 4))
    drawn = draw("layer_and_activity_matched", candidate, units, neighbours=120)
    assert len(set(drawn.groups)) == 99
    assert all(per_layer(group, units) == per_layer(candidate, units) for group in drawn.groups)


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_a_strength_that_is_not_finite_is_refused(broken: float) -> None:
    with pytest.raises(HarnessError, match="strength of L0H2 is NaN or infinite"):
        draw("layer_and_activity_matched", (0,), UnitSpace.heads([4]), np.array([1.0, 2.0, broken, 3.0]))


def test_asking_for_no_neighbour_is_refused() -> None:
    with pytest.raises(HarnessError, match=r"controls\.neighbours=0"):
        draw("layer_and_activity_matched", (0,), UnitSpace.heads([3]), neighbours=0)


# ----------------------------------------------------------------------------------------------------------------------
# class_matched
# ----------------------------------------------------------------------------------------------------------------------


def labelled(classes: str) -> tuple[UnitSpace, Labels]:
    """One layer; a letter per unit is its class, ``.`` is unknown."""
    units = UnitSpace.heads([len(classes)])
    return units, Labels(tuple(None if letter == "." else letter for letter in classes), units)


def per_class(group: tuple[int, ...], labels: Labels) -> Counter[str | None]:
    return Counter(labels.classes[unit] for unit in group)


@given(st.text("ab.", min_size=2, max_size=9), st.data())
def test_class_matched_controls_have_as_many_units_of_each_class_unless_one_is_short(
    classes: str, data: st.DataObject
) -> None:
    units, labels = labelled("a" + classes)
    candidate = tuple(sorted(data.draw(st.sets(st.integers(0, len(units) - 1), min_size=1))))
    drawn = draw("class_matched", candidate, units, labels=labels, n=7)
    wanted, there = per_class(candidate, labels), Counter(labels.classes)
    assert drawn.shortfall == {
        label or "unknown": 2 * n - there[label] for label, n in wanted.items() if 2 * n > there[label]
    }
    for group in drawn.groups:
        assert drawn.shortfall or per_class(group, labels) == wanted


def test_all_groups_of_the_same_classes_are_drawn_where_they_are_few() -> None:
    units, labels = labelled("aaabbb..")
    groups = draw("class_matched", (0, 3, 6), units, labels=labels).groups
    assert sorted(groups) == [(1, 4, 7), (1, 5, 7), (2, 4, 7), (2, 5, 7)]


def test_a_class_with_too_few_remaining_units_is_matched_together_with_classes_not_in_the_candidate() -> None:
    """One ``a`` is left and two are needed: it is matched with ``c`` and unknown units; ``b`` stays matched."""
    units, labels = labelled("aaabbbbbcccc..")
    drawn = draw("class_matched", units.find(["L0H0", "L0H1", "L0H3"]), units, labels=labels, n=21)
    assert drawn.shortfall == {"a": 1}
    assert len(drawn.groups) == 21  # C(1 + 4 + 2, 2) x 4 = 84 there are
    assert all(per_class(group, labels)["b"] == 1 for group in drawn.groups)
    assert {unit for group in drawn.groups for unit in group}.isdisjoint({0, 1, 3})


def test_all_classes_are_matched_together_where_the_unused_ones_are_too_few() -> None:
    units, labels = labelled("aaabbbbbcccc..")
    drawn = draw("class_matched", units.find(["L0H0", "L0H1", "L0H3"]), units, labels=labels, n=22)
    assert drawn.shortfall == {"a": 1}
    assert len({tuple(sorted(map(str, per_class(group, labels).elements()))) for group in drawn.groups}) > 6


def test_class_matching_without_labels_is_refused() -> None:
    units, labels = labelled("......")
    with pytest.raises(HarnessError, match="no unit has a label"):
        draw("class_matched", (0,), units, labels=labels)


# ----------------------------------------------------------------------------------------------------------------------
# Drawing from pools
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.unchecked  # thousands of draws
@pytest.mark.parametrize(
    ("heads", "candidate", "listed"),
    [
        ([6, 8], (0, 1, 6, 7, 8), 4096),  # 6 x 10 groups are listed
        ([6, 8], (0, 1, 6, 7, 8), 0),  # dealt until one has no unit of the candidate: 840 there are
        ([9, 9], (0, 1, 2, 3, 9, 10, 11, 12), 0),  # 5 x 5 of 15876: units are dealt until they are free
    ],
)
def test_every_group_is_equally_likely(
    heads: list[int], candidate: tuple[int, ...], listed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.data.sampling.LISTED", listed)
    units = UnitSpace.heads(heads)
    pools = [units.at_sites([site]) for site in units.sites]
    counts = Counter(g for seed in range(1200) for g in from_pools(candidate, pools, units, 5, seed).groups)
    sizes = per_layer(candidate, units)
    assert len(counts) == math.prod(math.comb(size - sizes[layer], sizes[layer]) for layer, size in enumerate(heads))
    assert alike(counts)


def alike(counts: Counter[tuple[int, ...]]) -> bool:
    """Chi-square of equally likely groups, at the 0.1 % point."""
    expected = counts.total() / len(counts)
    return bool(sum((n - expected) ** 2 for n in counts.values()) / expected < chi2.ppf(0.999, len(counts) - 1))


def test_controls_are_found_even_if_nearly_all_groups_overlap_the_candidate() -> None:
    """Three of eight in each of ten layers: 3 in 10^8 of the 3 x 10^17 groups are disjoint from the candidate."""
    units = UnitSpace.heads([8] * 10)
    candidate = tuple(8 * layer + head for layer in range(10) for head in (1, 4, 6))
    assert len(set(draw("layer_matched", candidate, units).groups)) == 99


# ----------------------------------------------------------------------------------------------------------------------
# The same controls for all candidates of a profile
# ----------------------------------------------------------------------------------------------------------------------


def drawn_from(units: UnitSpace, site: str) -> st.SearchStrategy[list[int]]:
    """The units of a site, in any order."""
    return st.permutations(units.at_sites([site]))


@st.composite
def alike_in_layers(draw: st.DrawFn) -> tuple[UnitSpace, tuple[int, ...], tuple[int, ...]]:
    """Two candidates with as many units in each layer of a model: few groups or many."""
    heads = draw(st.lists(st.integers(4, 9), min_size=1, max_size=4))
    units = UnitSpace.heads(heads)
    counts = [draw(st.integers(int(layer == 0), 2)) for layer in range(len(heads))]
    first, second = (
        [unit for site, n in zip(units.sites, counts, strict=True) for unit in draw(drawn_from(units, site))[:n]]
        for _ in "12"
    )
    return units, tuple(sorted(first)), tuple(sorted(second))


@given(alike_in_layers(), st.integers(0, 5), st.sampled_from(["uniform", "layer_matched"]))
def test_candidates_of_one_profile_draw_from_one_order_of_groups(
    drawn_case: tuple[UnitSpace, tuple[int, ...], tuple[int, ...]], seed: int, name: str
) -> None:
    """Groups drawn for both come in the same order; the second candidate skips no group that is disjoint from it."""
    units, first, second = drawn_case
    of_first, of_second = (draw(name, candidate, units, n=12, seed=seed).groups for candidate in (first, second))
    both = [group for group in of_first if group in of_second]
    assert both == [group for group in of_second if group in of_first]
    for group in set(of_first) - set(of_second):
        passed_by = len(of_second) < 12 or of_first.index(group) < max(map(of_first.index, both), default=-1)
        assert not (passed_by and set(group).isdisjoint(second))


@given(alike_in_layers(), st.sampled_from(["uniform", "layer_matched"]))
def test_a_larger_draw_begins_with_the_smaller_one(
    drawn_case: tuple[UnitSpace, tuple[int, ...], tuple[int, ...]], name: str
) -> None:
    units, candidate, _ = drawn_case
    few, many = (draw(name, candidate, units, n=n).groups for n in (6, 30))
    assert few == many[: len(few)]


@pytest.mark.parametrize("name", ["uniform", "class_matched", "layer_matched"])
def test_two_candidates_of_a_large_model_share_as_many_controls_as_possible(name: str) -> None:
    """The share of groups disjoint from both among those disjoint from one: 99 draws of at least 16 600 groups."""
    units = UnitSpace.heads([30, 30])
    labels = Labels(tuple("ab"[layer] for layer, _ in places(units)), units)
    first, second = (0, 1, 30, 31), (1, 2, 31, 32)
    of_first, of_second = (set(draw(name, candidate, units, labels=labels).groups) for candidate in (first, second))
    free = [60, 4] if name == "uniform" else [30, 2]
    possible, both = (math.comb(free[0] - taken * free[1] // 2, free[1]) for taken in (2, 3))
    share = (both / possible) ** (1 if name == "uniform" else 2)
    assert len(of_first & of_second) >= binom(99, share).ppf(0.001) - 5  # the last few may be beyond the other's 99


def test_activity_matched_candidates_share_the_admissible_controls_if_groups_are_few() -> None:
    units, strength = UnitSpace.heads([12]), np.arange(12.0)
    first, second = (
        draw("layer_and_activity_matched", candidate, units, strength, n=200, neighbours=9).groups
        for candidate in ((2, 6), (3, 6))
    )
    both = [group for group in first if group in second]
    assert both == [group for group in second if group in first]
    assert len(both) > 20


# ----------------------------------------------------------------------------------------------------------------------
# What few units left do to p
# ----------------------------------------------------------------------------------------------------------------------


def test_few_remaining_units_inflate_the_spread_of_controls() -> None:
    """Two units of a layer with 8 others: variance (1 + 1/4) / (1 - 1/4), and Student's t with 7 degrees of freedom."""
    expected = np.sqrt((1 + 2 / 8) / (1 - 2 / 8)) * student.ppf(0.95, 7) / normal.ppf(0.95)
    assert inflation([(8, 2)]) == pytest.approx(expected)
    assert inflation([(8, 2), (5, 0)]) == pytest.approx(expected)  # a layer the candidate has nothing in
    assert inflation([(10_000, 2)]) == pytest.approx(1.0, abs=1e-3)
    assert inflation([(2, 2)]) == inflation([(1, 1)]) == np.inf


@pytest.mark.parametrize("pools", [[(12, 4)], [(10, 2), (10, 2)], [(8, 1), (8, 2)]])
def test_the_test_holds_its_level_for_random_groups_of_small_layers(pools: list[tuple[int, int]]) -> None:
    """Additive normal damage: without inflation, 10 to 18 % of random groups would reach 5 %."""
    rng = np.random.default_rng(0)
    wide = inflation([(size - g, g) for size, g in pools])
    found = []
    for _ in range(800):
        damage, controls = 0.0, np.zeros(99)
        for size, g in pools:
            effects = rng.normal(size=size)
            damage += effects[:g].sum()
            controls += effects[g:][rng.random((99, size - g)).argsort(axis=1)[:, :g]].sum(axis=1)
        found.append(p_value(damage, inflated(controls.tolist(), wide), damage=1))
    assert np.mean([p is not None and p <= 0.05 for p in found]) <= binom(800, 0.05).ppf(0.999) / 800
