"""Intervals of mean changes and counts of flipped answers: against scipy, enumerations and coverage by simulation."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import Float
from scipy.stats import binom, binomtest, bootstrap, multinomial, ttest_1samp

from harness.closure.intervals import FURTHEST, Flips, beyond_groups, flips, mean_interval
from harness.data.sampling import Group
from harness.data.units import UnitSpace
from tests.unit.worlds import results_of, trial_of

Interval = tuple[float, float]

Changes = Float[np.ndarray, " n"]

steps = st.lists(st.integers(-40, 40), min_size=2, max_size=12).map(lambda eighths: np.array(eighths) / 8)
"""Changes whose sums are exact, so that resamples of equal changes stay equal after a shift."""


def limits(interval: Interval | None) -> Interval:
    """An interval that exists."""
    assert interval is not None
    return interval


def lognormal(rng: np.random.Generator, n: int, sigma: float) -> Float[np.ndarray, " n"]:
    """Skewed changes with mean 0."""
    return rng.lognormal(0, sigma, n) - math.exp(sigma**2 / 2)


def misses(interval: Callable[[int], Interval | None], worlds: int, truth: float = 0.0) -> tuple[float, float]:
    """Shares of simulated worlds whose interval lies wholly below and wholly above the truth."""
    found = np.array([interval(world) for world in range(worlds)])
    return float((found[:, 1] < truth).mean()), float((found[:, 0] > truth).mean())


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


@pytest.mark.unchecked
def test_intervals_of_skewed_changes_cover_their_mean_more_often_than_percentile_intervals() -> None:
    worlds = [lognormal(np.random.default_rng(world), 32, 0.75) for world in range(300)]
    below, above = misses(lambda world: mean_interval(worlds[world], world), len(worlds))
    assert below + above <= 0.08 + 1.645 * math.sqrt(0.08 * 0.92 / 300)
    assert below + above < sum(misses(lambda world: percentile(worlds[world]), len(worlds)))


@pytest.mark.slow
@pytest.mark.unchecked
@pytest.mark.parametrize("n", [32, 64])
@pytest.mark.parametrize("sigma", [0.5, 0.75, 1.0])
def test_bootstrap_t_covers_the_mean_of_lognormal_changes(n: int, sigma: float) -> None:
    """Coverage .92 to .97; percentile intervals stop short of the mean more often, on the side of the long tail."""
    worlds = [lognormal(np.random.default_rng(world), n, sigma) for world in range(2000)]
    below, above = misses(lambda world: mean_interval(worlds[world], world), len(worlds))
    percentile_below, _ = misses(lambda world: percentile(worlds[world]), len(worlds))
    error = 1.645 * math.sqrt(0.08 * 0.92 / 2000)
    assert 0.92 - error <= 1 - below - above <= 0.97 + error
    assert below < percentile_below


@given(changes=steps, shift=st.integers(-100, 100), factor=st.integers(1, 8), seed=st.integers(0, 3))
def test_intervals_move_with_their_changes(changes: Changes, shift: int, factor: int, seed: int) -> None:
    low, high = limits(mean_interval(changes, seed))
    assert mean_interval(factor * changes + shift, seed) == pytest.approx((factor * low + shift, factor * high + shift))
    assert mean_interval(-changes, seed) == pytest.approx((-high, -low), abs=1e-9)
    assert low <= changes.mean() + 1e-9
    assert high >= changes.mean() - 1e-9


@given(changes=steps, seed=st.integers(0, 3))
def test_a_higher_level_gives_a_wider_interval(changes: Changes, seed: int) -> None:
    (low, high), (lower, higher) = (
        limits(mean_interval(changes, seed)),
        limits(mean_interval(changes, seed, level=0.99)),
    )
    assert lower <= low
    assert high <= higher


def test_equal_changes_have_an_interval_without_width() -> None:
    assert mean_interval(np.zeros(64), seed=0) == (0.0, 0.0)
    assert mean_interval(np.full(64, 0.1), seed=0) == pytest.approx((0.1, 0.1), abs=1e-15)


def test_one_example_has_no_interval() -> None:
    assert mean_interval(np.ones(1), seed=0) is None
    assert mean_interval(np.arange(3.0), seed=0, clusters=np.full(3, 7)) is None


def test_limits_are_at_most_ten_standard_errors_from_the_mean() -> None:
    """Two examples: half of the resamples have no variance. Three of 64: some hold only rounding noise."""
    assert mean_interval(np.array([-1.0, 1.0]), seed=0) == (-FURTHEST, FURTHEST)
    sparse = np.where(np.arange(64) < 3, 1.0, 1e-12 * np.random.default_rng(0).normal(size=64))
    low, high = limits(mean_interval(sparse, seed=0))
    assert sparse.mean() - low <= FURTHEST * sparse.std(ddof=1) / 8
    assert high - sparse.mean() == pytest.approx(FURTHEST * sparse.std(ddof=1) / 8)


@given(changes=steps, seed=st.integers(0, 3), data=st.data())
def test_clusters_of_one_example_change_nothing(changes: Changes, seed: int, data: st.DataObject) -> None:
    labels = np.array(data.draw(st.permutations(range(len(changes)))))
    assert mean_interval(changes, seed, clusters=labels) == mean_interval(changes, seed)


@given(changes=steps, copies=st.integers(2, 4), seed=st.integers(0, 3))
def test_copies_of_an_example_in_one_cluster_change_nothing(changes: Changes, copies: int, seed: int) -> None:
    clusters = np.repeat(np.arange(len(changes)), copies)
    copied = mean_interval(np.repeat(changes, copies), seed, clusters=clusters)
    assert copied == pytest.approx(mean_interval(changes, seed), abs=1e-9)


@pytest.mark.unchecked
def test_whole_clusters_cover_the_mean_where_examples_of_a_document_are_alike() -> None:
    """40 documents of 1 to 6 examples that share an effect. Examples as if independent miss far more often."""
    rng = np.random.default_rng(3)
    documents = [np.repeat(np.arange(40), rng.integers(1, 7, 40)) for _ in range(200)]
    worlds = [rng.normal(size=40)[d] + 0.5 * rng.normal(size=len(d)) for d in documents]
    clustered = sum(misses(lambda i: mean_interval(worlds[i], i, clusters=documents[i]), 200))
    assert clustered <= binom.ppf(0.999, 200, 0.05) / 200
    assert sum(misses(lambda i: mean_interval(worlds[i], i), 200)) > 0.15


# ----------------------------------------------------------------------------------------------
# Beyond groups
# ----------------------------------------------------------------------------------------------


def test_groups_that_do_nothing_leave_the_interval_of_the_mean() -> None:
    changes = np.random.default_rng(4).gamma(4, size=100)
    assert beyond_groups(changes, np.zeros((5, 100)), seed=0) == pytest.approx(mean_interval(changes, seed=0), abs=0.03)


def test_examples_that_are_alike_leave_the_interval_of_the_groups() -> None:
    effects = np.random.default_rng(5).gamma(4, size=100)
    low, high = limits(mean_interval(effects, seed=0))
    found = beyond_groups(np.zeros(8), np.repeat(effects[:, None], 8, axis=1), seed=0)
    assert found == pytest.approx((-high, -low), abs=0.03)


def test_damage_beyond_equal_groups_is_certain_only_without_variation() -> None:
    assert beyond_groups(np.full(4, 3.0), np.ones((2, 4)), seed=0) == (2.0, 2.0)
    assert beyond_groups(np.arange(4.0), np.ones((1, 4)), seed=0) is None
    assert beyond_groups(np.ones(1), np.ones((5, 1)), seed=0) is None


@pytest.mark.unchecked
def test_examples_and_groups_cover_the_difference_where_examples_alone_do_not() -> None:
    """24 examples, 12 groups: the effect of a group, of an example (it cancels), and of both."""
    rng = np.random.default_rng(6)
    worlds = [
        (example + rng.normal(size=24), example + rng.normal(size=(12, 1)) + rng.normal(size=(12, 24)))
        for example in rng.normal(size=(150, 24))
    ]
    below, above = misses(lambda i: beyond_groups(*worlds[i], seed=i), 150)
    assert below + above <= binom.ppf(0.999, 150, 0.05) / 150
    assert sum(misses(lambda i: mean_interval(worlds[i][0] - worlds[i][1].mean(axis=0), i), 150)) > 0.15


# ----------------------------------------------------------------------------------------------
# Flips of a yes/no metric
# ----------------------------------------------------------------------------------------------


def test_flips_are_counted_in_the_direction_of_damage() -> None:
    changes = np.array([-1.0, -1.0, 0.0, 1.0, 0.0])
    assert flips(changes, damage=-1) == Flips(worse=2, better=1, n=5)
    assert flips(changes, damage=1) == Flips(worse=1, better=2, n=5)
    assert flips(np.array([0.0, 0.5]), damage=1) is None


def test_mcnemar_is_the_sign_test_of_the_examples_that_changed() -> None:
    assert Flips(worse=5, better=0, n=64).p_worse == 1 / 32
    assert Flips(worse=5, better=0, n=64).p_better == 1
    assert Flips(worse=0, better=0, n=64).p_worse == Flips(worse=0, better=0, n=64).p_better == 1
    assert Flips(worse=9, better=3, n=64).p_worse == pytest.approx(binomtest(3, 12, alternative="less").pvalue)


def test_bounds_are_those_of_clopper_and_pearson_where_all_changes_have_one_direction() -> None:
    exact = binomtest(7, 64).proportion_ci(0.95, method="exact")
    assert Flips(worse=7, better=0, n=64).bound()[1] == pytest.approx(exact.high)
    assert Flips(worse=0, better=7, n=64).bound()[0] == pytest.approx(-exact.high)
    none = binomtest(0, 64).proportion_ci(0.95, method="exact").high
    assert Flips(worse=0, better=0, n=64).bound() == pytest.approx((-none, none))
    assert Flips(worse=8, better=0, n=8).bound()[1] == 1


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 20), st.sampled_from([0.9, 0.95, 0.99]))
def test_bounds_exclude_zero_exactly_where_mcnemar_rejects(worse: int, better: int, same: int, level: float) -> None:
    found = Flips(worse, better, max(1, worse + better + same))
    low, high = found.bound(level)
    assert (low > 0) == (found.p_worse < (1 - level) / 2)
    assert (high < 0) == (found.p_better < (1 - level) / 2)
    assert low <= (worse - better) / found.n <= high


@pytest.mark.parametrize("n", [6, 16])
def test_each_bound_is_missed_in_at_most_one_case_of_forty(n: int) -> None:
    """The probability of every outcome, over shares that change and their directions."""
    outcomes = np.array(
        [(worse, better, n - worse - better) for worse in range(n + 1) for better in range(n + 1 - worse)]
    )
    bounds = np.array([Flips(int(worse), int(better), n).bound() for worse, better, _ in outcomes])
    for share, worse in itertools.product([0.02, 0.1, 0.3, 0.6, 0.9, 0.99], [0.5, 0.6, 0.8, 0.95, 1.0]):
        p = np.array([share * worse, share * (1 - worse), 1 - share])
        chances = multinomial.pmf(outcomes, n, p)
        assert chances[bounds[:, 0] > p[0] - p[1]].sum() <= 0.025
        assert chances[bounds[:, 1] < p[0] - p[1]].sum() <= 0.025


# ----------------------------------------------------------------------------------------------------------------------
# A yes/no metric of a batch with documents
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("documents", "harmed"), [(64, True), (8, True), (4, False), (1, False)])
def test_examples_of_a_document_count_together(documents: int, harmed: bool) -> None:
    """All of 64 examples become wrong. That is one observation for each document: p = 2^-8 for eight, 2^-4 for four."""
    units = UnitSpace.heads([4, 4])
    groups = {"document": np.arange(64) % documents}
    trial = trial_of(units, lambda _: 0.0, n=64, evaluate=wrong_without_unit_0)
    trial = replace(trial, batch=replace(trial.batch, groups=groups))
    effect = results_of(trial, (0, 4))[0].report.effects["score"]
    assert (effect.delta, effect.changed, effect.harmed, effect.helped) == (-1.0, (64, 0), harmed, False)
    assert (effect.interval is not None) == (documents >= 10)


def wrong_without_unit_0(batch: Any, conditions: Sequence[Group], _: Any, metrics: Any, *__: Any) -> np.ndarray:
    return np.array([[np.full(len(batch), 0.0 if 0 in group else 1.0) for group in conditions]])
