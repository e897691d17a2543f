"""Intervals of mean changes and counts of flipped answers: against scipy, enumerations and coverage by simulation."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import strategies as st
from jaxtyping import Float
from scipy.stats import bootstrap, ttest_1samp

from harness.closure.intervals import mean_interval

Interval = tuple[float, float]

changes_of_examples = st.lists(st.floats(-10, 10, allow_subnormal=False), min_size=2, max_size=20).map(np.array)


def lognormal(rng: np.random.Generator, n: int, sigma: float) -> Float[np.ndarray, " n"]:
    """Skewed changes with mean 0."""
    return rng.lognormal(0, sigma, n) - math.exp(sigma**2 / 2)


def misses(interval: Callable[[int], Interval | None], worlds: int, truth: float = 0.0) -> tuple[float, float]:
    """Shares of simulated worlds whose interval lies wholly below and wholly above the truth."""
    limits = np.array([interval(world) for world in range(worlds)])
    return float((limits[:, 1] < truth).mean()), float((limits[:, 0] > truth).mean())


def percentile(changes: Float[np.ndarray, " n"]) -> Interval:
    """The interval that the bootstrap-t replaces, by scipy."""
    found = bootstrap((changes,), np.mean, n_resamples=999, method="percentile", rng=np.random.default_rng(0))
    return tuple(found.confidence_interval)


# ----------------------------------------------------------------------------------------------
# Mean changes
# ----------------------------------------------------------------------------------------------


def test_intervals_of_normal_changes_are_those_of_student() -> None:
    changes = np.random.default_rng(0).normal(0.3, 1, 200)
    student = ttest_1samp(changes, 0).confidence_interval()
    assert mean_interval(changes, seed=0) == pytest.approx(tuple(student), abs=0.02)


def test_intervals_of_slightly_skewed_changes_are_those_of_bca() -> None:
    """Both are accurate to second order, so they agree closely where the skew is small."""
    changes = np.random.default_rng(1).gamma(4, size=300)
    bca = bootstrap((changes,), np.mean, n_resamples=9999, method="BCa", rng=np.random.default_rng(2))
    assert mean_interval(changes, seed=0) == pytest.approx(tuple(bca.confidence_interval), abs=0.03)


@pytest.mark.usefixtures("unchecked")
def test_intervals_of_skewed_changes_cover_their_mean_more_often_than_percentile_intervals() -> None:
    worlds = [lognormal(np.random.default_rng(world), 32, 0.75) for world in range(300)]
    below, above = misses(lambda world: mean_interval(worlds[world], world), len(worlds))
    assert below + above <= 0.08 + 1.645 * math.sqrt(0.08 * 0.92 / 300)
    assert below + above < sum(misses(lambda world: percentile(worlds[world]), len(worlds)))


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("n", [32, 64])
@pytest.mark.parametrize("sigma", [0.5, 0.75, 1.0])
def test_bootstrap_t_covers_the_mean_of_lognormal_changes(n: int, sigma: float) -> None:
    """Coverage .92 to .97; percentile intervals miss more often, and nearly always on the side of the long tail."""
    worlds = [lognormal(np.random.default_rng(world), n, sigma) for world in range(4000)]
    below, above = misses(lambda world: mean_interval(worlds[world], world), len(worlds))
    percentile_below, percentile_above = misses(lambda world: percentile(worlds[world]), len(worlds))
    print(n, sigma, below, above, percentile_below, percentile_above)
    assert 0.92 <= 1 - below - above <= 0.97
    assert percentile_below > below
