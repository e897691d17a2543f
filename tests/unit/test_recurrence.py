"""Units that groups share by chance: exact distributions against enumeration, p against simulation."""

from __future__ import annotations

from itertools import combinations
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.data.recurrence import (
    overlap_distribution,
    p_at_least,
    recurrence_p,
    shared_units,
    times_distribution,
)


def test_in_one_cell_the_shared_units_are_hypergeometric() -> None:
    chance = overlap_distribution(np.array([6]), np.array([6]), np.array([8]))
    exact = [comb(6, k) * comb(2, 6 - k) / comb(8, 6) for k in range(7)]
    np.testing.assert_allclose(chance, exact)
    assert p_at_least(chance, 4) == pytest.approx(1)  # two groups of six of eight share at least four


def test_over_cells_it_is_that_of_every_pair_of_groups_counted_by_hand() -> None:
    """Two cells of 4 and 3 units: groups of (2, 1) and (1, 2) units."""
    first = [{*a, *b} for a in combinations(range(4), 2) for b in combinations(range(4, 7), 1)]
    second = [{*a, *b} for a in combinations(range(4), 1) for b in combinations(range(4, 7), 2)]
    counts = np.bincount([len(a & b) for a in first for b in second], minlength=3)
    chance = overlap_distribution(np.array([2, 1]), np.array([1, 2]), np.array([4, 3]))
    np.testing.assert_allclose(chance, counts / counts.sum())


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=4))
def test_its_mean_is_the_sum_of_ab_over_n(cells: list[tuple[int, int, int]]) -> None:
    sizes = np.array([n for n, _, _ in cells])
    a, b = (np.minimum(sizes, [cell[i] for cell in cells]) for i in (1, 2))
    chance = overlap_distribution(a, b, sizes)
    assert chance.sum() == pytest.approx(1)
    assert chance @ np.arange(len(chance)) == pytest.approx((a * b / sizes).sum())


def test_how_often_a_unit_is_in_groups_is_binomial_where_shares_are_equal() -> None:
    exact = [comb(4, k) * 0.75**k * 0.25 ** (4 - k) for k in range(5)]
    np.testing.assert_allclose(times_distribution([0.75] * 4), exact)
    assert times_distribution([1.0, 0.0]).tolist() == [0, 1, 0]


def test_p_of_two_groups_is_the_exact_probability() -> None:
    """With two groups the sum over pairs is one hypergeometric number; 9999 draws have an error of .005."""
    cell_of = np.array([0] * 8 + [1] * 8)
    groups = [(0, 1, 2, 8), (0, 1, 3, 9)]
    exact = p_at_least(overlap_distribution(np.array([3, 1]), np.array([3, 1]), np.array([8, 8])), 2)
    assert shared_units(groups) == 2
    assert recurrence_p(groups, cell_of) == pytest.approx(exact, abs=0.02)


def test_p_is_uniform_or_larger_when_groups_are_random() -> None:
    rng = np.random.default_rng(0)
    cell_of = np.zeros(32, dtype=np.int64)
    found = [
        recurrence_p([tuple(rng.choice(32, 6, replace=False).tolist()) for _ in range(4)], cell_of, seed)
        for seed in range(120)
    ]
    assert all(np.mean(np.array(found) <= level) <= level + 3 * np.sqrt(level / 120) for level in (0.05, 0.2, 0.5))
    assert np.mean(found) > 0.4


def test_equal_groups_are_certain_where_a_group_is_its_whole_cell_and_rare_elsewhere() -> None:
    groups = [(0, 1)] * 4
    assert recurrence_p(groups, np.array([0, 0, 1, 1])) == 1
    assert recurrence_p(groups, np.zeros(20, dtype=np.int64)) == 1e-4
