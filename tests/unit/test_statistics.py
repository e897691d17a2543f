"""z, p, Holm, Benjamini-Hochberg, intervals: against hand-made numbers, definitions and the null distribution."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.closure.statistics import (
    benjamini_hochberg,
    bootstrap_interval,
    holm,
    p_value,
    wilson_interval,
    z_score,
)

probabilities = st.floats(0, 1)


def test_z_is_the_distance_from_the_controls_in_their_standard_deviations() -> None:
    assert z_score(5.0, [0.0, 2.0, 4.0]) == pytest.approx(1.5)  # mean 2, sample deviation 2
    assert z_score(5.0, [0.0, 2.0, 4.0], ddof=0) == pytest.approx(3 / math.sqrt(8 / 3))


def test_z_changes_sign_with_its_data() -> None:
    assert z_score(-5.0, [0.0, -2.0, -4.0]) == pytest.approx(-1.5)


@pytest.mark.parametrize("controls", [[], [1.0], [0.1, 0.1, 0.1], [0.7] * 99])
def test_z_is_undefined_without_spread_among_the_controls(controls: list[float]) -> None:
    assert z_score(3.0, controls) is None


def test_one_control_has_no_spread_of_any_kind() -> None:
    assert z_score(3.0, [1.0], ddof=0) is None


def test_p_counts_controls_that_are_as_bad_itself_included() -> None:
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


def test_p_errs_on_the_safe_side_when_damages_tie() -> None:
    """Ties count against the candidate: P(p <= x) never exceeds x (but for sampling error)."""
    rng = np.random.default_rng(1)
    worlds = rng.integers(0, 3, (4000, 20)).astype(float)
    p = np.array([p_value(world[0], world[1:].tolist(), damage=-1) for world in worlds])
    assert all((p <= x).mean() <= x + 1.63 / math.sqrt(len(worlds)) for x in np.arange(1, 21) / 20)
    assert (p <= 0.05).mean() < 0.01  # three values among twenty: hardly any world can reach the level at all


@given(st.lists(probabilities, min_size=1, max_size=5))
def test_holm_is_the_closed_test_of_bonferroni(p: list[float]) -> None:
    """Independent definition: the worst Bonferroni p over all sets of hypotheses that hold this one."""
    everyone = range(len(p))
    subsets = [s for size in range(1, len(p) + 1) for s in itertools.combinations(everyone, size)]
    expected = [max(min(1.0, len(s) * min(p[j] for j in s)) for s in subsets if i in s) for i in everyone]
    assert holm(p) == pytest.approx(expected)


def test_holm_passes_over_what_was_not_tested() -> None:
    assert holm([0.01, None, 0.04]) == pytest.approx([0.02, None, 0.04])
    assert holm([None, None]) == [None, None]


@given(st.lists(probabilities, min_size=1, max_size=12))
def test_q_is_the_smallest_false_discovery_rate_that_calls_it(p: list[float]) -> None:
    """Independent definition: reject all p <= t at the estimated rate m t / #{p <= t}; the best t at or above p."""
    expected = [min(1.0, *(len(p) * t / sum(x <= t for x in p) for t in p if t >= mine)) for mine in p]
    assert benjamini_hochberg(p) == pytest.approx(expected)


def test_a_board_without_tests_has_no_q() -> None:
    assert benjamini_hochberg([]) == []


def test_intervals_cover_the_mean_of_normal_data_95_times_in_100() -> None:
    rng = np.random.default_rng(2)
    intervals = [bootstrap_interval(rng.normal(0.3, 1.0, 40), seed) for seed in range(150)]
    covered = np.mean([low <= 0.3 <= high for low, high in intervals])  # type: ignore[misc]
    assert 0.88 <= covered <= 0.98  # 0.94 expected at n = 40, standard error 0.02


def test_an_interval_is_as_wide_as_the_central_limit_theorem_says() -> None:
    deltas = np.random.default_rng(3).exponential(size=2000)
    low, high = bootstrap_interval(deltas, seed=0) or (math.nan, math.nan)
    assert high - low == pytest.approx(2 * 1.96 * deltas.std() / math.sqrt(2000), rel=0.06)


def test_examples_that_all_change_alike_leave_no_doubt() -> None:
    assert bootstrap_interval(np.full(12, -0.75), seed=0) == (-0.75, -0.75)


def test_one_example_has_no_interval() -> None:
    assert bootstrap_interval(np.array([1.0]), seed=0) is None


def test_an_interval_depends_on_its_seed_alone() -> None:
    deltas = np.random.default_rng(4).normal(size=30)
    assert bootstrap_interval(deltas, seed=1) == bootstrap_interval(deltas.copy(), seed=1)
    assert bootstrap_interval(deltas, seed=1) != bootstrap_interval(deltas, seed=2)


@given(st.integers(1, 60), st.data())
def test_the_interval_of_a_share_is_wilsons(n: int, data: st.DataObject) -> None:
    """Independent definition: the shares whose normal test the data do not reject."""
    passed = data.draw(st.integers(0, n))
    low, high = wilson_interval(passed, n)
    z = 1.959963984540054
    for end in (low, high):
        if 0 < end < 1:
            assert abs(passed / n - end) == pytest.approx(z * math.sqrt(end * (1 - end) / n), rel=1e-6)
    assert -1e-12 <= low <= passed / n <= high <= 1 + 1e-12


def test_five_of_six_is_between_44_and_97_percent() -> None:
    assert wilson_interval(5, 6) == pytest.approx((0.4365, 0.9699), abs=5e-5)
