"""z, p, Benjamini-Hochberg, intervals: against numbers by hand, definitions and the null distribution."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.closure.paired import excess, paired_difference
from harness.closure.statistics import (
    RESAMPLES,
    benjamini_hochberg,
    bootstrap_interval,
    bootstrap_means,
    p_value,
    selection_p,
    wilson_interval,
    z_score,
)
from harness.data.grouping import best_overlap, jaccard
from harness.util.errors import HarnessError
from harness.util.seeds import rng_for

probabilities = st.floats(0, 1)
changes = st.floats(-10, 10, allow_subnormal=False)
groups = st.sets(st.integers(0, 12), min_size=1)


def uniform_at(p: np.ndarray, support: np.ndarray) -> bool:
    """Kolmogorov-Smirnov at a discrete distribution's support, at the 1 % point (conservative there)."""
    return bool(max(abs((p <= x).mean() - x) for x in support) < 1.63 / math.sqrt(len(p)))


def test_z_is_the_distance_from_the_controls_in_their_standard_deviations() -> None:
    assert z_score(5.0, [0.0, 2.0, 4.0]) == pytest.approx(1.5)  # mean 2, sample deviation 2
    assert z_score(5.0, [0.0, 2.0, 4.0], ddof=0) == pytest.approx(3 / math.sqrt(8 / 3))


def test_z_changes_sign_with_its_data() -> None:
    assert z_score(-5.0, [0.0, -2.0, -4.0]) == pytest.approx(-1.5)


@pytest.mark.parametrize("controls", [[], [1.0], [0.1, 0.1, 0.1], [0.7] * 99])
def test_z_is_undefined_without_spread_among_the_controls(controls: list[float]) -> None:
    assert z_score(3.0, controls) is None


def test_one_control_has_no_spread() -> None:
    assert z_score(3.0, [1.0], ddof=0) is None


def test_p_counts_the_controls_with_at_least_the_same_damage_and_the_candidate_itself() -> None:
    controls = [-4.0, -3.0, -1.0, 0.0]
    assert p_value(-3.0, controls, damage=-1) == 3 / 5
    assert p_value(-3.0, controls, damage=1) == 4 / 5  # -3, -1, 0 are as high


def test_p_is_never_below_one_over_one_plus_the_controls() -> None:
    assert p_value(1e9, [0.0] * 5, damage=1) == 1 / 6
    assert p_value(1e9, [0.0] * 99, damage=1) == 1 / 100


def test_p_needs_controls() -> None:
    assert p_value(1.0, [], damage=1) is None


def test_p_is_uniform_when_the_candidate_is_one_of_the_controls() -> None:
    """Exchangeable worlds: p takes each of 1/20 .. 20/20 equally often (Kolmogorov-Smirnov at its support)."""
    rng = np.random.default_rng(0)
    worlds = rng.standard_normal((4000, 20))
    p = np.array([p_value(world[0], world[1:].tolist(), damage=1) for world in worlds])
    support = np.arange(1, 21) / 20
    distance = max(abs((p <= x).mean() - x) for x in support)
    assert distance < 1.63 / math.sqrt(len(worlds))  # the 1 % point, conservative for discrete distributions


def test_p_is_conservative_with_tied_damages() -> None:
    """Ties count against the candidate: P(p <= x) never exceeds x (but for sampling error)."""
    rng = np.random.default_rng(1)
    worlds = rng.integers(0, 3, (4000, 20)).astype(float)
    p = np.array([p_value(world[0], world[1:].tolist(), damage=-1) for world in worlds])
    assert all((p <= x).mean() <= x + 1.63 / math.sqrt(len(worlds)) for x in np.arange(1, 21) / 20)
    assert (p <= 0.05).mean() < 0.01  # three values among twenty: hardly any world can reach the level at all


@given(st.lists(probabilities, min_size=1, max_size=12))
def test_q_is_the_smallest_false_discovery_rate_at_which_a_test_is_rejected(p: list[float]) -> None:
    """Independent definition: reject all p <= t at the estimated rate m t / #{p <= t}; the best t at or above p."""
    expected = [min(1.0, *(len(p) * t / sum(x <= t for x in p) for t in p if t >= mine)) for mine in p]
    assert benjamini_hochberg(p) == pytest.approx(expected)


def test_a_board_without_tests_has_no_q() -> None:
    assert benjamini_hochberg([]) == []


def test_intervals_cover_the_mean_of_normal_data_95_times_in_100() -> None:
    from scipy.stats import binom

    rng = np.random.default_rng(2)
    intervals = [bootstrap_interval(rng.normal(0.3, 1.0, 60), seed) for seed in range(400)]
    covered = sum(low <= 0.3 <= high for low, high in intervals)  # type: ignore[misc]
    nominal = math.erf(1.96 * math.sqrt(59 / 60) / math.sqrt(2)) - 0.004  # deviation of n, not n - 1; normal for t
    assert binom.ppf(0.001, 400, nominal) <= covered <= binom.ppf(0.999, 400, nominal)


def test_the_interval_is_that_of_scipy() -> None:
    """Percentile intervals from different resamples differ by the sampling error of 1999 resamples."""
    from scipy.stats import bootstrap

    deltas = np.random.default_rng(5).exponential(size=80)
    other = bootstrap((deltas,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(6))
    assert bootstrap_interval(deltas, seed=0) == pytest.approx(tuple(other.confidence_interval), abs=0.03)


@pytest.mark.parametrize("n", [2, 3, 64, 129, 20_001])
def test_vectorized_resampling_gives_the_results_of_the_loop(n: int) -> None:
    deltas = np.random.default_rng(n).normal(size=n)
    rng = rng_for(3, "bootstrap")
    first = [deltas[rng.integers(n, size=n)].mean() for _ in range(40)]
    means = bootstrap_means(np.stack([deltas, 2 * deltas]), seed=3)
    assert means is not None
    assert means.shape == (2, RESAMPLES)
    assert means[0, :40].tolist() == first
    assert np.array_equal(means[1], 2 * means[0])  # the same examples for every row


def test_the_width_of_an_interval_follows_the_central_limit_theorem() -> None:
    deltas = np.random.default_rng(3).exponential(size=2000)
    low, high = bootstrap_interval(deltas, seed=0) or (math.nan, math.nan)
    assert high - low == pytest.approx(2 * 1.96 * deltas.std() / math.sqrt(2000), rel=0.06)


def test_equal_changes_give_an_interval_of_zero_width() -> None:
    assert bootstrap_interval(np.full(12, -0.75), seed=0) == (-0.75, -0.75)


def test_one_example_has_no_interval() -> None:
    assert bootstrap_interval(np.array([1.0]), seed=0) is None


def test_an_interval_depends_only_on_its_seed() -> None:
    deltas = np.random.default_rng(4).normal(size=30)
    assert bootstrap_interval(deltas, seed=1) == bootstrap_interval(deltas.copy(), seed=1)
    assert bootstrap_interval(deltas, seed=1) != bootstrap_interval(deltas, seed=2)


@given(st.integers(1, 60), st.data())
def test_the_interval_of_a_share_is_that_of_wilson(n: int, data: st.DataObject) -> None:
    """Independent definition: the shares that the normal test does not reject."""
    passed = data.draw(st.integers(0, n))
    low, high = wilson_interval(passed, n)
    z = 1.959963984540054
    for end in (low, high):
        if 0 < end < 1:
            assert abs(passed / n - end) == pytest.approx(z * math.sqrt(end * (1 - end) / n), rel=1e-6)
    assert -1e-12 <= low <= passed / n <= high <= 1 + 1e-12


def test_five_of_six_is_between_44_and_97_percent() -> None:
    assert wilson_interval(5, 6) == pytest.approx((0.4365, 0.9699), abs=5e-5)


# ----------------------------------------------------------------------------------------------------------------------
# p-values: whatever they are given
# ----------------------------------------------------------------------------------------------------------------------


@given(changes, st.lists(changes, min_size=1, max_size=20), st.sampled_from([1, -1]))
def test_p_is_between_its_minimum_and_one_and_falls_with_damage(delta: float, controls: list[float], sign: int) -> None:
    p = p_value(delta, controls, sign)
    worse = p_value(delta + sign, controls, sign)
    assert p is not None
    assert worse is not None
    assert 1 / (1 + len(controls)) <= worse <= p <= 1
    assert p_value(-delta, [-c for c in controls], -sign) == p


@pytest.mark.parametrize(("delta", "controls"), [(math.nan, [0.0, 1.0]), (1.0, [0.0, math.nan])])
def test_a_damage_that_is_not_a_number_has_no_p(delta: float, controls: list[float]) -> None:
    with pytest.raises(HarnessError, match="a damage is NaN"):
        p_value(delta, controls, damage=1)


def test_a_selected_candidate_is_compared_with_selected_null_groups() -> None:
    assert selection_p(-3.0, [-4.0, -3.0, -1.0, 0.0], damage=-1) == 3 / 5
    assert selection_p(-3.0, [], damage=-1) is None


def test_the_p_of_the_best_of_eight_is_uniform_if_controls_are_the_best_of_eight() -> None:
    rng = np.random.default_rng(7)
    best = rng.standard_normal((3000, 20, 8)).max(axis=2)
    p = np.array([selection_p(world[0], world[1:].tolist(), damage=1) for world in best])
    assert uniform_at(p, np.arange(1, 21) / 20)


# ----------------------------------------------------------------------------------------------------------------------
# Two methods on the same examples
# ----------------------------------------------------------------------------------------------------------------------


def test_the_excess_is_the_damage_minus_the_mean_of_the_controls() -> None:
    assert excess(np.array([1.0, 2.0]), np.array([[0.0, 1.0], [1.0, 2.0]])).tolist() == [0.5, 0.5]
    with pytest.raises(HarnessError, match="needs at least one control group"):
        excess(np.ones(2), np.ones((0, 2)))


@pytest.mark.parametrize("n", [1, 2, 5, 12])
def test_few_examples_use_all_sign_flips_as_in_scipy(n: int) -> None:
    from scipy.stats import permutation_test

    rng = np.random.default_rng(n)
    a, b = rng.normal(0.5, 1, n), rng.integers(-2, 3, n).astype(float)
    found = paired_difference(a, b, seed=0)
    assert found.n == n
    assert found.mean == pytest.approx(a.mean() - b.mean())
    if n == 1:  # which scipy refuses: either sign is as far from zero
        assert (found.p, found.interval) == (1.0, None)
        return
    other = permutation_test(
        (a, b), lambda x, y: np.mean(x - y), permutation_type="samples", n_resamples=np.inf, alternative="two-sided"
    )
    assert found.p == pytest.approx(other.pvalue)


def test_many_examples_use_random_sign_flips_and_agree_with_the_normal_limit() -> None:
    from scipy.stats import norm

    rng = np.random.default_rng(13)
    a, b = rng.normal(0.06, 1, 900), rng.normal(0, 1, 900)
    found = paired_difference(a, b, seed=0)
    d = a - b
    expected = 2 * norm.sf(abs(d.mean()) / (np.sqrt((d**2).mean()) / 30))  # flips: variance about zero
    assert found.p == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / 9999) + 2e-3)
    assert found.interval == pytest.approx(norm.interval(0.95, d.mean(), d.std(ddof=1) / 30), abs=0.01)


def test_the_p_of_a_pair_is_uniform_if_both_methods_are_equal() -> None:
    rng = np.random.default_rng(14)
    p = np.array([paired_difference(*rng.standard_normal((2, 8)), seed=0).p for _ in range(600)])
    assert uniform_at(p, np.arange(2, 257, 2) / 256)  # of 256 flips, each with its mirror image


def test_two_methods_with_equal_damages_do_not_differ() -> None:
    a = np.random.default_rng(15).normal(size=40)
    found = paired_difference(a, a.copy(), seed=0)
    assert (found.mean, found.interval, found.p) == (0.0, (0.0, 0.0), 1.0)


@given(st.lists(st.tuples(changes, changes), min_size=2, max_size=12), st.randoms(use_true_random=False))
def test_a_pair_does_not_depend_on_the_order_of_examples_or_of_methods(
    pairs: list[tuple[float, float]], r: Any
) -> None:
    a, b = np.array(pairs).T
    order = r.sample(range(len(pairs)), len(pairs))
    found, shuffled, turned = (
        paired_difference(a, b, 0),
        paired_difference(a[order], b[order], 0),
        paired_difference(b, a, 0),
    )
    assert shuffled.p == found.p == turned.p
    assert shuffled.mean == pytest.approx(found.mean, abs=1e-12)
    assert turned.mean == pytest.approx(-found.mean, abs=1e-12)


def test_methods_measured_on_different_examples_are_not_compared() -> None:
    with pytest.raises(HarnessError, match="measured on 3 and 4 examples"):
        paired_difference(np.ones(3), np.ones(4), seed=0)
    with pytest.raises(HarnessError, match="measured on 0 and 0 examples"):
        paired_difference(np.ones(0), np.ones(0), seed=0)


# ----------------------------------------------------------------------------------------------------------------------
# Groups found again
# ----------------------------------------------------------------------------------------------------------------------


@given(groups, groups)
def test_overlap_is_symmetric_and_between_zero_and_one(a: set[int], b: set[int]) -> None:
    assert jaccard(a, b) == jaccard(b, a) == pytest.approx(len(a & b) / (len(a) + len(b) - len(a & b)))
    assert jaccard(a, a) == 1
    assert jaccard(a, {unit + 13 for unit in b}) == 0


@given(groups, groups, groups)
def test_distances_between_groups_satisfy_the_triangle_inequality(a: set[int], b: set[int], c: set[int]) -> None:
    assert 1 - jaccard(a, c) <= 2 - jaccard(a, b) - jaccard(b, c) + 1e-12


def test_the_best_overlap_is_with_the_most_similar_group() -> None:
    assert best_overlap((1, 2, 3), [(7, 8), (2, 3, 4), (1,)]) == 0.5
    assert best_overlap((1, 2, 3), []) == 0
    with pytest.raises(HarnessError, match="two empty groups"):
        jaccard([], set())
