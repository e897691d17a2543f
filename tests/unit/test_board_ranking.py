"""The uncertainty of a ranking: published ranks and critical difference, and numbers from theory."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import friedmanchisquare, rankdata

from harness.board.ranking import compare_ranks, competition_ranks, mean_interval, pareto_optimal

# Areas under the ROC curve of four versions of a decision tree on 14 data sets: Demšar 2006, table 6.
DEMSAR = np.array(
    [
        [0.763, 0.768, 0.771, 0.798],
        [0.599, 0.591, 0.590, 0.569],
        [0.954, 0.971, 0.968, 0.967],
        [0.628, 0.661, 0.654, 0.657],
        [0.882, 0.888, 0.886, 0.898],
        [0.936, 0.931, 0.916, 0.931],
        [0.661, 0.668, 0.609, 0.685],
        [0.583, 0.583, 0.563, 0.625],
        [0.775, 0.838, 0.866, 0.875],
        [1.000, 1.000, 1.000, 1.000],
        [0.940, 0.962, 0.965, 0.962],
        [0.619, 0.666, 0.614, 0.669],
        [0.972, 0.981, 0.9751, 0.975],  # ranked apart there, though alike to three digits
        [0.957, 0.978, 0.946, 0.970],
    ]
)
SCORES = arrays(np.float64, st.tuples(st.integers(1, 5), st.integers(1, 6)), elements=st.sampled_from([0.0, 0.5, 1.0]))
POINTS = st.lists(st.tuples(st.integers(0, 4).map(float), st.integers(0, 4).map(float)), min_size=1, max_size=12)


def test_mean_ranks_and_critical_difference_are_the_published_ones() -> None:
    found = compare_ranks(["C4.5", "C4.5+m", "C4.5+cf", "C4.5+m+cf"], DEMSAR.T)
    assert found.mean_ranks == pytest.approx((3.143, 2.000, 2.893, 1.964), abs=5e-4)
    assert found.critical_difference == pytest.approx(1.25, abs=5e-3)
    assert found.p == pytest.approx(friedmanchisquare(*DEMSAR.T).pvalue)
    assert found.tasks == 14


def test_identical_rows_do_not_differ() -> None:
    found = compare_ranks(["a", "b", "c"], np.ones((3, 5)))
    assert (found.mean_ranks, found.p) == ((2.0, 2.0, 2.0), 1.0)


def test_a_row_without_a_candidate_is_last() -> None:
    scores = np.array([[-np.inf] * 4, [0.0, 1, 2, 3], [1.0, 2, 3, 4]])
    assert compare_ranks(["a", "b", "c"], scores).mean_ranks == (3.0, 2.0, 1.0)


def test_too_few_tasks_or_rows_are_reported() -> None:
    """q(3 rows) = 2.343: always first and always last are 2 apart, more than q sqrt(12 / 6 n) from n = 3 on."""
    rows = np.arange(3.0)[:, None]
    few = compare_ranks(["a", "b", "c"], rows.repeat(2, axis=1))
    assert few.summary == "No critical difference: comparing 3 methods needs at least 3 tasks; this board has 2."
    enough = compare_ranks(["a", "b", "c"], rows.repeat(3, axis=1))
    assert enough.critical_difference == pytest.approx(2.343 * math.sqrt(12 / 18), abs=1e-3)
    assert "at least 3 complete rows; this board has 2" in compare_ranks(["a", "b"], rows[:2].repeat(9, axis=1)).reason


@given(SCORES)
def test_ranks_are_those_of_scipy(scores: np.ndarray) -> None:
    assert (competition_ranks(scores) == rankdata(-scores, method="min", axis=-1)).all()


def test_the_interval_of_a_mean_has_the_spread_of_tasks_and_of_examples() -> None:
    """Many tasks: normal, with the variance over tasks and the mean squared error of a task, over their number."""
    values, errors = np.tile([0.0, 2.0], 200), np.full(400, 0.5)
    low, high = mean_interval(values, errors)
    half = 1.96 * math.sqrt((1.0 + 0.25) / 400)
    assert (low, high) == pytest.approx((1 - half, 1 + half), abs=0.015)


def test_pareto_optimal_points_are_not_beaten_in_both_criteria() -> None:
    assert pareto_optimal([(0.9, 10.0), (0.5, 1.0), (0.5, 2.0), (0.2, 0.5), (0.9, 11.0)]) == [
        True,
        True,
        False,
        True,
        False,
    ]
    assert pareto_optimal([(0.5, 1.0), (0.5, 1.0)]) == [True, True]


@given(POINTS)
def test_the_best_and_the_cheapest_are_pareto_optimal(points: list[tuple[float, float]]) -> None:
    optimal = [point for point, is_optimal in zip(points, pareto_optimal(points), strict=True) if is_optimal]
    assert max(points, key=lambda p: (p[0], -p[1])) in optimal
    assert min(points, key=lambda p: (p[1], -p[0])) in optimal
