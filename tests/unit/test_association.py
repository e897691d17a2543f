"""Rank correlation and its partial form: scipy, the closed form of one variable held fixed, and coverage."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import rankdata, spearmanr

from harness.closure.association import Association


def test_without_anything_held_fixed_it_is_spearmans() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 30))
    y += x
    found, expected = Association.of(x, y), spearmanr(x, y)
    assert found is not None
    assert found.rho == pytest.approx(expected.statistic)
    assert found.p == pytest.approx(expected.pvalue)
    assert found.interval[0] < found.rho < found.interval[1]


def test_with_one_figure_held_fixed_it_is_the_closed_form() -> None:
    rng = np.random.default_rng(1)
    z = rng.standard_normal(40)
    x, y = z + rng.standard_normal((2, 40))
    found = Association.of(x, y, z)
    r = np.corrcoef([rankdata(values) for values in (x, y, z)])
    expected = (r[0, 1] - r[0, 2] * r[1, 2]) / np.sqrt((1 - r[0, 2] ** 2) * (1 - r[1, 2] ** 2))
    assert found is not None
    assert found.rho == pytest.approx(expected)
    assert found.held == 1


def test_the_interval_covers_zero_in_95_of_100_worlds_without_association() -> None:
    covered = 0
    for seed in range(400):
        x, y, z = np.random.default_rng(seed).standard_normal((3, 32))
        found = Association.of(x + 2 * z, y + 2 * z, z)
        assert found is not None
        covered += found.interval[0] <= 0 <= found.interval[1]
    assert 0.90 < covered / 400 < 0.99


def test_what_has_no_correlation_has_none() -> None:
    x = np.arange(10.0)
    assert Association.of(x, np.ones(10)) is None
    assert Association.of(x, x, x) is None  # nothing is left of it
    assert Association.of(x[:4], x[:4]) is None
    perfect = Association.of(x, x**3)
    assert perfect is not None
    assert perfect.rho == 1
