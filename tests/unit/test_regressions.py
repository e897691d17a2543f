"""Simultaneous regressions against one at a time, against the optimum, and against closed forms."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from harness_plugins.affinities import _pseudolikelihood as regressions
from harness_plugins.affinities._pseudolikelihood import Regressions, regress_each
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from harness.util.threads import one_thread


@pytest.fixture(autouse=True)
def small_fits_on_one_thread() -> Iterator[None]:
    """One thread, as in the pipeline: more threads than cores make small fits fifty times slower."""
    with one_thread():
        yield


def one_by_one(spins: np.ndarray, l2: float, **parameters: object) -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's coefficients [units, units + 1], the intercept last, and its numbers of iterations."""
    found, iterations = [], []
    for unit in range(spins.shape[1]):
        fit = LogisticRegression(C=1 / l2, **parameters).fit(np.delete(spins, unit, axis=1), spins[:, unit])
        found.append([*np.insert(fit.coef_[0], unit, 0.0), *fit.intercept_])
        iterations.append(int(fit.n_iter_[0]))
    return np.array(found), np.array(iterations)


def joined(found: Regressions) -> np.ndarray:
    return np.column_stack([found.coefficients, found.intercepts])


def gradients(spins: np.ndarray, weights: np.ndarray, l2: float) -> np.ndarray:
    """The gradient of mean loss and penalty, from the formula, one regression at a time; 0 for the unit itself."""
    n, units = spins.shape
    inputs = np.column_stack([spins, np.ones(n)]).astype(float)
    found = np.zeros_like(weights)
    for unit in range(units):
        missed = expit(-spins[:, unit] * (inputs @ weights[unit])) * spins[:, unit]
        found[unit] = -missed @ inputs / n + l2 / n * np.append(weights[unit, :-1], 0.0)
        found[unit, unit] = 0.0
    return found


def coupled(seed: int, observations: int, units: int, strength: float = 0.7) -> np.ndarray:
    """Units in groups of four that share a signal."""
    rng = np.random.default_rng(seed)
    signal = np.repeat(rng.normal(size=(observations, -(-units // 4))), 4, axis=1)[:, :units]
    return np.where(strength * signal + rng.normal(size=(observations, units)) > 0, 1, -1)


@st.composite
def designs(draw: st.DrawFn) -> np.ndarray:
    """Few observations, some columns copied or nearly so; no constant column."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, units = draw(st.integers(8, 60)), draw(st.integers(2, 7))
    spins = np.where(rng.normal(size=(n, 1)) + draw(st.floats(0.3, 3)) * rng.normal(size=(n, units)) > 0, 1, -1)
    if draw(st.booleans()):
        spins[:, -1] = spins[:, 0]
        spins[0, -1] *= draw(st.sampled_from([-1, 1]))
    assume((np.abs(spins.mean(axis=0)) < 1).all())
    return spins


@pytest.mark.parametrize(
    ("observations", "units", "strength"), [(128, 32, 0.7), (256, 32, 2.0), (1000, 64, 1.0), (96, 128, 1.0)]
)
def test_every_step_is_that_of_scikit_learn(observations: int, units: int, strength: float) -> None:
    """Same coefficients far below the tolerance that both stop at, after the same numbers of iterations."""
    spins = coupled(1, observations, units, strength)
    found = regress_each(spins, 1e-3, 500)
    weights, iterations = one_by_one(spins, 1e-3, max_iter=500)
    np.testing.assert_allclose(joined(found), weights, atol=1e-8)
    np.testing.assert_array_equal(found.iterations, iterations)


@given(designs(), st.sampled_from([1e-3, 0.1, 10.0]))
def test_the_optimum_is_that_of_newtons_method(spins: np.ndarray, l2: float) -> None:
    """Another algorithm of scikit-learn, which uses second derivatives and shares nothing with L-BFGS."""
    found = regress_each(spins, l2, 20_000, tolerance=1e-10)
    best, _ = one_by_one(spins, l2, solver="newton-cholesky", tol=1e-12, max_iter=1000)
    assert found.converged.all()
    np.testing.assert_allclose(found.coefficients, best[:, :-1], atol=1e-4)


@given(designs(), st.sampled_from([1e-3, 0.1, 10.0]), st.sampled_from([1e-2, 1e-4, 1e-6]))
def test_the_final_gradient_is_below_the_tolerance(spins: np.ndarray, l2: float, tolerance: float) -> None:
    found = regress_each(spins, l2, 20_000, tolerance)
    assert found.converged.all()
    assert np.abs(gradients(spins, joined(found), l2)).max() <= tolerance * (1 + 1e-6)
    assert not np.diagonal(found.coefficients).any()


def test_two_units_couple_by_their_odds_ratio() -> None:
    r"""Without a penalty the coefficient is half the log odds ratio, for both directions."""
    counts = {(1, 1): 40, (1, -1): 15, (-1, 1): 10, (-1, -1): 35}
    spins = np.repeat(np.array(list(counts)), list(counts.values()), axis=0)
    found = regress_each(spins, 1e-9, 500, tolerance=1e-12)
    expected = math.log(40 * 35 / (15 * 10)) / 2
    np.testing.assert_allclose(found.coefficients, [[0, expected], [expected, 0]], rtol=1e-6)
    both = math.log(40 / 15), math.log(10 / 35)  # log-odds of the second unit, given the first up or down
    assert found.intercepts[1] == pytest.approx(sum(both) / 2, rel=1e-6)


@pytest.mark.parametrize("l2", [1e-3, 1.0])
def test_the_coupling_of_two_identical_units_balances_penalty_and_loss(l2: float) -> None:
    """Both units are always equal, each up half of the time: the slope of n log(1 + e^-w) + l2 w^2 / 2 is zero."""
    n = 200
    spins = np.repeat([[1, 1], [-1, -1]], n // 2, axis=0)
    expected = brentq(lambda w: n * expit(-w) - l2 * w, 0, 100, xtol=1e-12)
    found = regress_each(spins, l2, 500, tolerance=1e-12)
    assert found.coefficients[0, 1] == pytest.approx(expected, rel=1e-6)
    assert found.margins[0] == pytest.approx(expected, rel=1e-6)


def test_independent_units_converge_before_the_first_step() -> None:
    spins = np.array(list(itertools.product([-1, 1], repeat=4)))
    found = regress_each(spins, 1e-3, 500)
    assert not joined(found).any()
    assert not found.iterations.any()
    assert found.converged.all()


def test_only_a_fit_that_ran_out_of_iterations_is_reported() -> None:
    spins = coupled(2, 100, 20, strength=2.0)
    full = regress_each(spins, 1e-3, 500)
    assert full.converged.all()
    few = int(np.median(full.iterations))
    early = full.iterations <= few
    assert 0 < early.sum() < len(early)
    cut = regress_each(spins, 1e-3, few)
    np.testing.assert_array_equal(cut.converged, early)
    np.testing.assert_array_equal(cut.iterations, np.minimum(full.iterations, few))
    np.testing.assert_array_equal(joined(cut)[early], joined(full)[early])
    steepest = np.abs(gradients(spins, joined(cut), 1e-3)).max(axis=1)
    np.testing.assert_array_equal(steepest <= 1e-4, early)


def test_margins_are_medians_of_the_log_odds_of_the_observed_sign() -> None:
    spins = coupled(3, 150, 6)
    found = regress_each(spins, 1e-3, 500)
    odds = spins @ found.coefficients.T + found.intercepts
    np.testing.assert_allclose(found.margins, np.median(odds * spins, axis=0), atol=1e-10)


def test_the_result_does_not_depend_on_blocks_or_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    spins = coupled(4, 200, 11)
    whole = joined(regress_each(spins, 1e-3, 500))
    monkeypatch.setattr(regressions, "BLOCK", 3)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    alone = joined(regress_each(spins, 1e-3, 500))
    np.testing.assert_allclose(alone, whole, atol=1e-10)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    np.testing.assert_array_equal(joined(regress_each(spins, 1e-3, 500)), alone)


@given(designs(), st.randoms(use_true_random=False))
def test_the_optimum_does_not_depend_on_the_order_of_units(spins: np.ndarray, random: object) -> None:
    order = list(range(spins.shape[1]))
    random.shuffle(order)  # type: ignore[attr-defined]
    straight = regress_each(spins, 0.1, 20_000, tolerance=1e-10).coefficients
    other = regress_each(spins[:, order], 0.1, 20_000, tolerance=1e-10).coefficients
    np.testing.assert_allclose(other, straight[np.ix_(order, order)], atol=1e-5)


Line = Callable[[float], tuple[float, float]]


def falling_line(rng: np.random.Generator) -> Line:
    """Value and slope along a line that falls at first: a mean of logistic losses, and a penalty."""
    n, penalty = int(rng.integers(1, 20)), 10 ** rng.uniform(-6, 0)
    margins, drifts, start = rng.uniform(0.1, 20) * rng.normal(size=n), rng.normal(size=n), rng.normal()

    def at(length: float, way: int = 1) -> tuple[float, float]:
        reached, weight = margins + way * length * drifts, start + way * length
        slope = way * (penalty * weight - (expit(-reached) * drifts).mean())
        return float(np.logaddexp(0, -reached).mean() + penalty * weight**2 / 2), float(slope)

    return at if at(0)[1] < 0 else lambda length: at(length, -1)


def searched(at: Line, length: float) -> list[float]:
    """The step lengths tried; the last one is accepted."""
    search = regressions._Search(*at(0), length)
    lengths = [length]
    while not search.accepts(*at(search.length)):
        lengths.append(search.length)
    return lengths


@given(st.integers(0, 2**32 - 1), st.floats(-4, 4))
def test_a_line_search_ends_when_value_and_slope_have_decreased_enough(seed: int, exponent: float) -> None:
    at = falling_line(np.random.default_rng(seed))
    value, slope = at(0)
    assume(slope < -1e-4)
    length = searched(at, 10**exponent)[-1]
    reached, flatter = at(length)
    assert length > 0
    assert reached <= value + 1e-3 * slope * length
    assert abs(flatter) <= 0.9 * abs(slope)


def test_a_line_search_tries_the_steps_of_scipy() -> None:
    """Enough lines for each rule to decide on some of them; the rarest ("tilt") decides on the last three."""
    peer = pytest.importorskip("scipy.optimize._dcsrch", reason="this release of scipy keeps its line search elsewhere")
    for seed in (*range(1000), 4059, 8551, 10608):
        rng = np.random.default_rng(seed)
        length, at = 10 ** rng.uniform(-4, 4), falling_line(rng)
        value, slope = at(0)
        if slope > -1e-4:
            continue
        scipy_steps: list[float] = []

        def noted(tried: float, at: Line = at, scipy_steps: list[float] = scipy_steps) -> float:
            scipy_steps.append(float(tried))
            return at(tried)[0]

        search = peer.DCSRCH(noted, lambda tried, at=at: at(tried)[1], 1e-3, 0.9, 0.1, 0.0, 1e10)
        search(length, phi0=value, derphi0=slope, maxiter=50)
        np.testing.assert_allclose(searched(at, length), scipy_steps, rtol=1e-6, err_msg=str(seed))


def test_a_change_of_the_gradient_whose_square_underflows_is_not_divided_by() -> None:
    columns = [[-1, -1, -1, -1, 1, 1, 1, -1, -1, -1, 1, 1, 1], [1, -1, -1, -1, 1, 1, 1, -1, -1, -1, 1, 1, 1]]
    fit = regress_each(np.array(columns, dtype=np.int8).T, 0.1, 20_000, tolerance=1e-10)
    assert all(np.isfinite(part).all() for part in (fit.coefficients, fit.intercepts))
