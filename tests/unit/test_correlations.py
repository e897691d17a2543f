"""Correlations between units, plain, partial and between nearest neighbours, and their cosine: against scikit-learn,
closed forms and definitions written out."""

from __future__ import annotations

import itertools
import math
import re
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.covariance import GraphicalLasso
from sklearn.metrics import matthews_corrcoef
from sklearn.metrics.pairwise import cosine_similarity

from harness.data.grouping import Affinity
from harness.data.recording import Activity, Spins
from harness.data.units import UnitSpace
from harness.registry.config import registry
from harness.util.errors import HarnessError
from harness.util.threads import one_thread

METHODS = ["pearson", "cosine", "partial_correlation", "pearson_knn"]
few_spins = hnp.arrays(np.int8, st.tuples(st.integers(2, 9), st.integers(2, 7)), elements=st.sampled_from([-1, 1]))


@pytest.fixture(autouse=True)
def one_thread_each() -> Iterator[None]:
    with one_thread():
        yield


def heads(n: int) -> UnitSpace:
    """Two layers, or one if the number is odd."""
    return UnitSpace.heads([n // 2] * 2 if n % 2 == 0 else [n])


def spins(values: np.ndarray) -> Spins:
    return Spins(values.astype(np.int8), heads(values.shape[1]))


def activity(values: np.ndarray) -> Activity:
    return Activity(values, heads(values.shape[1]))


def fit(name: str, given: Spins | Activity, **parameters: Any) -> Affinity:
    affinity: Affinity = registry().get("affinity", name).build(parameters)(given)
    return affinity


def shuffled(given: Spins | Activity, order: list[int]) -> Spins | Activity:
    """The same units in another order."""
    return type(given)(given.values[:, order], UnitSpace(tuple(given.units.units[i] for i in order)))


def mixed(seed: int = 0, observations: int = 60, units: int = 6) -> np.ndarray:
    """Units that share a signal, half of them with opposite sign, each with its own scale and mean."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(observations, 1)) * (-1) ** np.arange(units) + rng.normal(size=(observations, units))
    return values * rng.uniform(0.1, 10, units) + rng.normal(size=units)


def off_diagonal(matrix: np.ndarray) -> np.ndarray:
    return matrix - np.diag(np.diagonal(matrix))


# ----------------------------------------------------------------------------------------------------------------------
# What they share
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METHODS)
@given(values=few_spins, data=st.data())
def test_affinities_do_not_depend_on_the_order_of_units_even_with_tied_spins(
    name: str, values: np.ndarray, data: st.DataObject
) -> None:
    given = spins(values)
    order = data.draw(st.permutations(range(values.shape[1])))
    try:
        straight = fit(name, given)
    except HarnessError as refusal:  # of partial_correlation, where few examples make many units copies of one another
        with pytest.raises(HarnessError, match=re.escape(refusal.what)):
            fit(name, shuffled(given, order))
    else:
        other = fit(name, shuffled(given, order))
        np.testing.assert_array_equal(other.dense(), straight.dense()[np.ix_(order, order)])
        assert set(other.diagnostics["constant"]) == set(straight.diagnostics["constant"])


@pytest.mark.parametrize("name", METHODS)
def test_affinities_of_many_units_do_not_depend_on_their_order_to_the_last_bit(name: str) -> None:
    """Matrix products sum in an order that depends on position; partitioners would break ties by it."""
    given = activity(mixed(observations=45, units=38))
    order = np.random.default_rng(0).permutation(38).tolist()
    straight, other = fit(name, given), fit(name, shuffled(given, order))
    np.testing.assert_array_equal(other.dense(), straight.dense()[np.ix_(order, order)])


def test_a_permutation_threshold_does_not_depend_on_the_order_of_units() -> None:
    given, order = activity(mixed(units=8)), [3, 7, 0, 2, 6, 1, 5, 4]
    straight = fit("pearson_knn", given, permutations=5)
    other = fit("pearson_knn", shuffled(given, order), permutations=5)
    assert other.diagnostics["threshold"] == straight.diagnostics["threshold"] > 0
    np.testing.assert_array_equal(other.dense(), straight.dense()[np.ix_(order, order)])


@pytest.mark.parametrize("name", METHODS)
def test_units_that_never_change_have_no_neighbours_and_are_named(name: str) -> None:
    values = mixed(units=6)
    values[:, 1], values[:, 4] = 0.1, 0.0  # the mean of many 0.1 is not 0.1
    found = fit(name, activity(values))
    assert found.diagnostics["constant"] == ["L0H1", "L1H1"]
    assert not found.dense()[[1, 4]].any()
    assert not found.dense()[:, [1, 4]].any()
    rest = [0, 2, 3, 5]
    alone = fit(name, activity(values[:, rest]))
    np.testing.assert_allclose(found.dense()[np.ix_(rest, rest)], alone.dense(), atol=1e-12)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("varying", [0, 1])
def test_fewer_than_two_varying_units_are_refused(name: str, varying: int) -> None:
    values = np.ones((5, 3), dtype=int)
    values[0, :varying] = -1
    found = fit(name, spins(values))
    assert not found.dense().any()
    assert len(found.diagnostics["constant"]) == 3 - varying


@pytest.mark.parametrize("name", METHODS)
def test_spins_are_used_as_numbers(name: str) -> None:
    values = np.where(mixed() > 0, 1, -1)
    np.testing.assert_array_equal(fit(name, spins(values)).dense(), fit(name, activity(values * 1.0)).dense())


@pytest.mark.parametrize("name", METHODS)
def test_single_precision_input_gives_the_correlations_of_double_precision(name: str) -> None:
    """Signals give float32; sums over it are made in float64."""
    single = mixed().astype(np.float32)
    found = fit(name, activity(single))
    assert found.matrix.dtype == np.float64
    np.testing.assert_array_equal(found.dense(), fit(name, activity(single.astype(np.float64))).dense())


@pytest.mark.parametrize("name", ["pearson", "cosine", "partial_correlation"])
def test_the_transform_decides_which_correlations_become_affinity(name: str) -> None:
    given = activity(mixed())
    signed = fit(name, given, transform="signed").dense()
    assert signed.min() < -0.05 < 0.05 < signed.max()
    np.testing.assert_array_equal(fit(name, given).dense(), np.abs(signed))
    np.testing.assert_array_equal(fit(name, given, transform="positive").dense(), np.where(signed > 0, signed, 0))
    with pytest.raises(HarnessError, match=r"affinity\.transform='square'"):
        fit(name, given, transform="square")


@pytest.mark.parametrize("name", METHODS)
def test_the_global_random_state_is_not_used_and_not_changed(name: str) -> None:
    found = []
    parameters = {"permutations": 3} if name == "pearson_knn" else {}
    for seed in (1, 2):
        np.random.seed(seed)
        found.append(fit(name, activity(mixed()), **parameters).dense())
        assert np.random.random() == np.random.RandomState(seed).random()
    np.testing.assert_array_equal(*found)


# ----------------------------------------------------------------------------------------------------------------------
# Pearson, cosine
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_pearson_of_activity_is_that_of_numpy(seed: int) -> None:
    values = mixed(seed)
    expected = off_diagonal(np.corrcoef(values.T))
    np.testing.assert_allclose(fit("pearson", activity(values), transform="signed").dense(), expected, atol=1e-13)


@given(few_spins)
def test_pearson_of_spins_is_the_phi_coefficient(values: np.ndarray) -> None:
    """scikit-learn calls it Matthews' correlation."""
    given = spins(values)
    matrix = fit("pearson", given, transform="signed").dense()
    for i, j in itertools.combinations(set(range(values.shape[1])) - set(given.constant), 2):
        assert matrix[i, j] == pytest.approx(matthews_corrcoef(values[:, i], values[:, j]), abs=1e-12)


def test_pearson_does_not_depend_on_scale_or_offset() -> None:
    values = mixed()
    moved = values * [1, 5, 0.01, 2, 3, 100] + [0, -7, 3, 1e3, 0, 5]
    np.testing.assert_allclose(
        fit("pearson", activity(moved)).dense(), fit("pearson", activity(values)).dense(), atol=1e-10
    )


@pytest.mark.parametrize("seed", range(3))
def test_cosine_is_that_of_scikit_learn(seed: int) -> None:
    values = mixed(seed)
    expected = off_diagonal(cosine_similarity(values.T))
    np.testing.assert_allclose(fit("cosine", activity(values), transform="signed").dense(), expected, atol=1e-13)


@given(few_spins)
def test_cosine_of_spins_is_agreement_minus_disagreement(values: np.ndarray) -> None:
    given = spins(values)
    matrix = fit("cosine", given, transform="signed").dense()
    for i, j in itertools.combinations(set(range(values.shape[1])) - set(given.constant), 2):
        agree = (values[:, i] == values[:, j]).mean()
        assert matrix[i, j] == pytest.approx(2 * agree - 1, abs=1e-12)


def test_cosine_depends_on_the_offset_and_pearson_does_not() -> None:
    values = np.random.default_rng(0).normal(size=(500, 2)) + 10
    assert fit("cosine", activity(values)).dense()[0, 1] > 0.98
    assert fit("pearson", activity(values)).dense()[0, 1] < 0.2


# ----------------------------------------------------------------------------------------------------------------------
# Partial correlation
# ----------------------------------------------------------------------------------------------------------------------


def partial(precision: np.ndarray) -> np.ndarray:
    """Partial correlations from a precision matrix, entry by entry."""
    n = len(precision)
    correlations = np.zeros((n, n))
    for i, j in itertools.permutations(range(n), 2):
        correlations[i, j] = -precision[i, j] / math.sqrt(precision[i, i] * precision[j, j])
    return correlations


@pytest.mark.parametrize("alpha", [0.02, 0.05, 0.2])
@pytest.mark.parametrize("seed", range(2))
def test_partial_correlations_follow_from_the_precision_of_scikit_learn(seed: int, alpha: float) -> None:
    values = mixed(seed)
    scaled = (values - values.mean(axis=0)) / values.std(axis=0)
    expected = partial(GraphicalLasso(alpha=alpha, tol=1e-8, enet_tol=1e-10, max_iter=1000).fit(scaled).precision_)
    found = fit("partial_correlation", activity(values), alpha=alpha, transform="signed").dense()
    np.testing.assert_allclose(found, expected, atol=2e-3)
    np.testing.assert_array_equal(found == 0, np.isclose(expected, 0, atol=1e-12))


def test_unpenalized_partial_correlations_follow_from_the_inverse() -> None:
    values = mixed(observations=200)
    expected = partial(np.linalg.inv(np.corrcoef(values.T)))
    found = fit("partial_correlation", activity(values), alpha=1e-6, transform="signed").dense()
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_two_units_and_a_penalty_have_a_closed_form() -> None:
    """The off-diagonal covariance at the optimum is the correlation shrunk by alpha; the diagonal is unchanged."""
    values = mixed(units=2)
    rho = np.corrcoef(values.T)[0, 1]
    assert rho < -0.2
    found = fit("partial_correlation", activity(values), alpha=0.1, transform="signed").dense()
    assert found[0, 1] == pytest.approx(rho + 0.1, abs=1e-4)


def test_only_neighbours_of_a_chain_are_partially_correlated() -> None:
    """x_t = 0.8 x_{t-1} + noise: correlated across the whole chain, each accounted for by its neighbours."""
    rng = np.random.default_rng(0)
    chain = rng.normal(size=(20_000, 6))
    for t in range(1, 6):
        chain[:, t] = 0.8 * chain[:, t - 1] + 0.6 * chain[:, t]
    found = fit("partial_correlation", activity(chain), alpha=0.02).dense()
    near = np.abs(np.subtract.outer(range(6), range(6))) == 1
    assert fit("pearson", activity(chain)).dense()[0, 5] > 0.3
    assert found[near].min() > 0.3
    assert found[~near].max() < 0.05


def test_a_fit_that_did_not_converge_reports_its_gap() -> None:
    values = mixed(units=10, observations=12)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        stopped = fit("partial_correlation", activity(values), max_iter=1)
        finished = fit("partial_correlation", activity(values))
    assert "duality gap" in str(stopped.diagnostics["not_converged"])
    assert "after 1 rounds" in str(stopped.diagnostics["not_converged"])
    assert not finished.diagnostics["not_converged"]


def test_many_units_on_few_examples_converge() -> None:
    """With the inner tolerance that scikit-learn defaults to, this stalls for all of its 100 rounds."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(64, 5))[:, rng.integers(0, 5, 96)] + rng.normal(size=(64, 96))
    given = spins(np.where(values > np.median(values, axis=0), 1, -1))
    for alpha in (0.05, 0.2):
        assert not fit("partial_correlation", given, alpha=alpha).diagnostics["not_converged"]


def test_correlations_too_close_to_singular_ask_for_a_larger_penalty() -> None:
    copies = np.repeat(mixed(units=3, observations=50), 10, axis=1)
    with pytest.raises(HarnessError, match=r"affinity\.alpha=1e-12: the fit to 30 units failed") as caught:
        fit("partial_correlation", activity(copies), alpha=1e-12)
    assert "affinity.alpha=2e-12" in caught.value.fix
    assert fit("partial_correlation", activity(copies)).dense().max() < 1


@pytest.mark.parametrize(
    "wrong", [{"alpha": 0}, {"alpha": -1}, {"alpha": 2}, {"alpha": math.nan}, {"alpha": "small"}, {"max_iter": 0}]
)
def test_invalid_parameters_of_partial_correlation_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(HarnessError, match=f"affinity.{next(iter(wrong))}="):
        fit("partial_correlation", activity(mixed()), **wrong)


# ----------------------------------------------------------------------------------------------------------------------
# Nearest neighbours
# ----------------------------------------------------------------------------------------------------------------------


def nearest(values: np.ndarray, k: int, mutual: bool, threshold: float) -> np.ndarray:
    """The definition, pair by pair."""
    n = values.shape[1]
    rho = np.zeros((n, n))
    for i, j in itertools.permutations(range(n), 2):
        if len(set(values[:, i])) > 1 and len(set(values[:, j])) > 1:
            rho[i, j] = max(float(np.corrcoef(values[:, i], values[:, j])[0, 1]), 0.0)

    def chooses(i: int, j: int) -> bool:
        """Whether fewer than k others are nearer to i than j."""
        return sum(rho[i, other] > rho[i, j] + 1e-9 for other in range(n) if other != i) < k

    joined = np.zeros((n, n))
    for i, j in itertools.permutations(range(n), 2):
        both = (chooses(i, j), chooses(j, i))
        if rho[i, j] > threshold + 1e-9 and (all(both) if mutual else any(both)):
            joined[i, j] = rho[i, j]
    return joined


@given(few_spins, st.integers(1, 4), st.booleans(), st.sampled_from([0.0, 0.3]))
def test_neighbours_follow_the_definition(values: np.ndarray, k: int, mutual: bool, threshold: float) -> None:
    found = fit("pearson_knn", spins(values), k=k, mutual=mutual, threshold=threshold).dense()
    np.testing.assert_allclose(found, nearest(values, k, mutual, threshold), atol=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_correlations_that_are_equal_but_for_rounding_tie(seed: int) -> None:
    """Spins of eleven examples with six up each: many correlations are equal except for rounding."""
    rng = np.random.default_rng(seed)
    values = np.stack([rng.permutation([1] * 6 + [-1] * 5) for _ in range(20)], axis=1)
    found = fit("pearson_knn", spins(values), k=3).dense()
    np.testing.assert_allclose(found, nearest(values, 3, mutual=True, threshold=0.0), atol=1e-9)


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.booleans())
def test_neighbours_in_activity_follow_the_definition(seed: int, k: int, mutual: bool) -> None:
    values = mixed(seed, observations=20, units=8)
    found = fit("pearson_knn", activity(values), k=k, mutual=mutual).dense()
    np.testing.assert_allclose(found, nearest(values, k, mutual, 0.0), atol=1e-9)


def test_tied_units_are_all_neighbours() -> None:
    """Four copies of a unit: with k = 1 each has three nearest neighbours."""
    half = np.array([1, 1, -1, -1])
    found = fit("pearson_knn", spins(np.stack([half] * 4, axis=1)), k=1)
    np.testing.assert_array_equal(found.dense(), 1 - np.eye(4))


@pytest.mark.parametrize(("units", "k"), [(2, 1), (4, 2), (8, 3), (24, 6), (40, 10), (100, 10), (144, 12), (256, 16)])
def test_k_grows_with_the_number_of_units_and_never_links_all_of_them(units: int, k: int) -> None:
    """Ten or the square root of the number; for few units at most a quarter of them (or the square root)."""
    given = activity(np.random.default_rng(0).normal(size=(10, units)))
    assert fit("pearson_knn", given).diagnostics["k"] == k
    assert fit("pearson_knn", given, k=3).diagnostics["k"] == min(3, units - 1)


def test_links_are_within_planted_blocks_and_not_across() -> None:
    rng = np.random.default_rng(0)
    block = np.repeat(range(4), 6)
    values = rng.normal(size=(400, 4))[:, block] + 0.5 * rng.normal(size=(400, 24))
    matrix = fit("pearson_knn", activity(values), k=5).dense()
    same = block[:, None] == block
    assert (matrix[same & ~np.eye(24, dtype=bool)] > 0.5).all()
    assert not matrix[~same].any()


def test_units_without_neighbours_and_constant_units_are_reported_separately() -> None:
    half = np.array([1, 1, -1, -1, 1, 1, -1, -1])
    values = np.stack([half, half, -half, np.ones(8)], axis=1)
    found = fit("pearson_knn", spins(values), k=1)
    assert found.diagnostics["isolated"] == ["L1H0"]
    assert found.diagnostics["constant"] == ["L1H1"]


def test_shuffling_sets_the_threshold_that_theory_gives() -> None:
    """Correlations of n independent normal pairs have standard deviation 1 / sqrt(n - 1) and are nearly normal."""
    given = activity(np.random.default_rng(0).normal(size=(401, 30)))
    found = fit("pearson_knn", given, permutations=20)
    assert found.diagnostics["threshold"] == pytest.approx(1.645 / 20, rel=0.05)
    stricter = fit("pearson_knn", given, permutations=20, quantile=0.999)
    assert stricter.diagnostics["threshold"] == pytest.approx(3.09 / 20, rel=0.1)


def test_a_permutation_threshold_removes_nearly_all_noise_and_keeps_the_signal() -> None:
    rng = np.random.default_rng(1)
    noise = rng.normal(size=(200, 20))
    pairs = 20 * 19
    assert (fit("pearson_knn", activity(noise)).dense() > 0).sum() / pairs > 0.15
    chance = fit("pearson_knn", activity(noise), permutations=50, quantile=0.999)
    assert (chance.dense() > 0).sum() / pairs < 0.01
    assert len(chance.diagnostics["isolated"]) >= 16
    noise[:, :4] += 2 * rng.normal(size=(200, 1))
    affinity = fit("pearson_knn", activity(noise), permutations=50, quantile=0.999).dense()
    assert (affinity[:4, :4] > 0).sum() == 12


def test_a_permutation_threshold_never_lowers_the_requested_threshold() -> None:
    found = fit("pearson_knn", activity(mixed()), threshold=0.6, permutations=3)
    assert found.diagnostics["threshold"] == 0.6
    np.testing.assert_array_equal(found.dense(), fit("pearson_knn", activity(mixed()), threshold=0.6).dense())


def test_permutations_are_drawn_from_the_seed() -> None:
    first, again, other = (
        fit("pearson_knn", activity(mixed()), permutations=3, seed=seed).diagnostics["threshold"] for seed in (0, 0, 1)
    )
    assert first == again != other


@pytest.mark.parametrize(
    "wrong",
    [{"k": 0}, {"k": "many"}, {"threshold": 1.5}, {"threshold": -0.1}, {"quantile": 2}, {"permutations": -1}],
)
def test_invalid_parameters_of_nearest_neighbours_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(HarnessError, match=f"affinity.{next(iter(wrong))}="):
        fit("pearson_knn", activity(mixed()), **wrong)
