"""Intervals of ranks over tasks: what they tell apart, ties, missing tasks, and coverage by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from jaxtyping import Float
from scipy.stats import binom, ttest_rel

from harness.board.rank_intervals import rank_intervals

boards = st.tuples(st.integers(1, 5), st.integers(1, 6)).flatmap(
    lambda shape: arrays(float, shape, elements=st.integers(-8, 8).map(lambda eighths: eighths / 8) | st.just(np.nan))
)


def test_methods_that_always_stand_in_one_order_have_one_rank_each() -> None:
    scores = np.array([[0.2, 0.3, 0.1], [0.8, 0.9, 0.7], [0.5, 0.6, 0.4]])  # tasks differ, differences do not
    assert rank_intervals(scores, seed=0) == [(3, 3), (1, 1), (2, 2)]


def test_one_task_tells_no_methods_apart() -> None:
    assert rank_intervals(np.array([[1.0], [0.5], [0.0]]), seed=0) == [(1, 3)] * 3


def test_equal_methods_share_their_places() -> None:
    thirds = np.array([0.1, 0.2, 0.3])  # sums of these are rounded
    assert rank_intervals(np.stack([thirds, thirds, thirds - 1]), seed=0) == [(1, 2), (1, 2), (3, 3)]


def test_a_method_that_was_run_on_one_task_is_told_apart_from_no_other() -> None:
    scores = np.array([[0.9, 0.9, 0.9], [np.nan, 1.0, np.nan], [0.1, 0.1, 0.1], [np.nan] * 3])
    assert rank_intervals(scores, seed=0) == [(1, 3), (1, 4), (2, 4), (1, 4)]


def test_a_missing_task_leaves_the_mean_over_the_others() -> None:
    """The second method is the better one on every task that both were run on, and in the mean."""
    scores = np.array([[0.1, 0.1, 0.1, 0.1], [np.nan, 0.9, 0.9, 0.9]])
    assert rank_intervals(scores, seed=0) == [(2, 2), (1, 1)]


@given(boards, st.data())
def test_intervals_do_not_depend_on_the_order_of_methods(
    scores: Float[np.ndarray, "methods tasks"], data: st.DataObject
) -> None:
    order = data.draw(st.permutations(range(len(scores))))
    intervals = rank_intervals(scores, seed=0)
    assert rank_intervals(scores[order], seed=0) == [intervals[method] for method in order]


@given(boards)
def test_scores_of_the_other_sign_give_the_ranks_from_the_other_end(scores: Float[np.ndarray, "methods tasks"]) -> None:
    places = len(scores) + 1
    mirrored = [(places - worst, places - best) for best, worst in rank_intervals(scores, seed=0)]
    assert rank_intervals(-scores, seed=0) == mirrored


@given(boards.map(np.nan_to_num), st.integers(1, 8))
def test_the_difficulty_of_tasks_and_the_unit_of_scores_do_not_matter(
    scores: Float[np.ndarray, "methods tasks"], unit: int
) -> None:
    easy = np.arange(scores.shape[1]) * 10.0
    assert rank_intervals(unit * scores + easy, seed=0) == rank_intervals(scores, seed=0)


@pytest.mark.unchecked
def test_two_equal_methods_are_told_apart_about_as_often_as_by_student() -> None:
    """Four tasks. The bootstrap without a correction for few tasks tells 20 % of equal pairs apart."""
    rng = np.random.default_rng(0)
    worlds = rng.normal(size=(600, 2, 4)) + 3 * rng.normal(size=(600, 1, 4))
    apart = np.array([rank_intervals(scores, seed=world)[0] != (1, 2) for world, scores in enumerate(worlds)])
    student = ttest_rel(worlds[:, 0], worlds[:, 1], axis=1).pvalue <= 0.05
    assert apart.mean() <= binom.ppf(0.999, 600, 0.05) / 600
    assert (apart == student).mean() >= 0.97


@pytest.mark.unchecked
@pytest.mark.parametrize("tasks", [3, 6])
def test_ranks_of_methods_that_differ_are_covered(tasks: int) -> None:
    """Eight methods; the best and the worst differ by four standard deviations of a score."""
    covered = []
    for world in range(150):
        rng = np.random.default_rng(world)
        scores = np.linspace(4, 0, 8)[:, None] + rng.normal(size=tasks) + rng.normal(size=(8, tasks))
        covered += [best <= rank <= worst for rank, (best, worst) in enumerate(rank_intervals(scores, world), 1)]
    assert np.mean(covered) >= 0.95
