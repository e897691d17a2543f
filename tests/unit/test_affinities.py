"""Ising couplings and mutual information: against known models, independent fits, and invariances."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import mutual_info_score

from harness.data.grouping import Affinity
from harness.data.recording import Spins
from harness.data.units import UnitSpace
from harness.registry.config import registry
from harness.util.errors import HarnessError
from harness.util.threads import one_thread


@pytest.fixture(autouse=True)
def small_fits_on_one_thread() -> Iterator[None]:
    """One thread, as in the pipeline: more threads than cores make small fits fifty times slower."""
    with one_thread():
        yield


def spins(values: np.ndarray) -> Spins:
    return Spins(values.astype(np.int8), UnitSpace.heads([values.shape[1]]))


def fit(name: str, given: Spins, **parameters: Any) -> Affinity:
    affinity: Affinity = registry().get("affinity", name).build(parameters)(given)
    return affinity


def model(couplings: np.ndarray, fields: np.ndarray, n: int) -> np.ndarray:
    """States of an Ising model, each as often as its probability says: expected counts of n, largest remainder."""
    states = np.array(list(itertools.product([-1, 1], repeat=len(fields))))
    energy = np.einsum("si,ij,sj->s", states, couplings, states) / 2 + states @ fields
    exact = n * np.exp(energy) / np.exp(energy).sum()
    return np.repeat(states, np.round(exact).astype(int), axis=0)


def random_spins(seed: int, observations: int = 80, units: int = 5) -> np.ndarray:
    """Units that share a signal and therefore have couplings."""
    rng = np.random.default_rng(seed)
    return np.where(rng.normal(size=(observations, 1)) + 1.5 * rng.normal(size=(observations, units)) > 0, 1, -1)


# ----------------------------------------------------------------------------------------------------------------------
# Ising
# ----------------------------------------------------------------------------------------------------------------------

J4 = np.array([[0, 0.5, 0, -0.4], [0.5, 0, 0.3, 0], [0, 0.3, 0, 0], [-0.4, 0, 0, 0]])
H4 = np.array([0.2, -0.1, 0.0, 0.3])


def test_couplings_of_a_known_model_are_recovered_with_their_signs() -> None:
    """Pseudolikelihood is exact if the data have the model's own distribution."""
    found = fit("ising", spins(model(J4, H4, 20_000)), transform="signed", l2=1e-6)
    np.testing.assert_allclose(found.matrix, J4, atol=0.01)


def test_couplings_of_a_chain_are_recovered_without_the_correlations_across_it() -> None:
    chain = np.diag([0.6] * 4, 1) + np.diag([0.6] * 4, -1)
    data = model(chain, np.zeros(5), 30_000)
    assert np.corrcoef(data.T)[0, 2] == pytest.approx(math.tanh(0.6) ** 2, abs=0.01)  # correlated, though not coupled
    np.testing.assert_allclose(fit("ising", spins(data), transform="signed", l2=1e-6).matrix, chain, atol=0.01)


@pytest.mark.parametrize("l2", [1e-3, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_couplings_are_those_of_one_converged_regression_per_unit(seed: int, l2: float) -> None:
    values = random_spins(seed, observations=120, units=6)
    rows = np.zeros((6, 6))
    for i in range(6):
        rest = [j for j in range(6) if j != i]
        regression = LogisticRegression(C=1 / l2, solver="newton-cholesky", tol=1e-12, max_iter=10_000)
        rows[i, rest] = regression.fit(values[:, rest], values[:, i]).coef_[0] / 2
    found = fit("ising", spins(values), transform="signed", l2=l2)
    np.testing.assert_allclose(found.matrix, (rows + rows.T) / 2, atol=2e-3)


@pytest.mark.parametrize("seed", range(3))
def test_couplings_are_those_of_a_loop_over_scikit_learn_below_its_tolerance(seed: int) -> None:
    """As the closure paper fits them, stopping included; with units that never change and one that copies another."""
    values = random_spins(seed, observations=200, units=12)
    values[:, 3], values[:, 7], values[:, 11] = 1, -1, values[:, 0]
    rows = np.zeros((12, 12))
    varying = [i for i in range(12) if i not in (3, 7)]
    for i in varying:
        rest = [j for j in varying if j != i]
        rows[i, rest] = LogisticRegression(C=1e3, max_iter=500).fit(values[:, rest], values[:, i]).coef_[0] / 2
    found = fit("ising", spins(values), transform="signed")
    np.testing.assert_allclose(found.matrix, (rows + rows.T) / 2, atol=1e-8)
    assert found.diagnostics == {
        "constant": ["L0H3", "L0H7"],
        "near_separable": ["L0H0", "L0H11"],
        "not_converged": [],
    }


def test_the_transform_decides_which_couplings_become_affinity() -> None:
    data = spins(model(J4, H4, 2000))
    signed = fit("ising", data, transform="signed").matrix
    assert signed.min() < -0.3 < 0.3 < signed.max()
    np.testing.assert_array_equal(fit("ising", data, transform="abs").matrix, np.abs(signed))
    np.testing.assert_array_equal(fit("ising", data).matrix, np.abs(signed))
    np.testing.assert_array_equal(fit("ising", data, transform="positive").matrix, np.where(signed > 0, signed, 0))


def test_a_larger_penalty_makes_smaller_couplings() -> None:
    data = spins(random_spins(0))
    sums = [fit("ising", data, l2=l2).matrix.sum() for l2 in (1e-3, 1.0, 100.0)]
    assert sums[0] > sums[1] > sums[2]


def test_units_that_never_change_have_no_couplings_and_are_named() -> None:
    values = random_spins(1)
    values[:, 1], values[:, 3] = 1, -1
    found = fit("ising", spins(values))
    assert found.diagnostics["constant"] == ["L0H1", "L0H3"]
    assert not found.matrix[[1, 3]].any()
    assert not found.matrix[:, [1, 3]].any()
    rest = fit("ising", spins(values[:, [0, 2, 4]]))
    np.testing.assert_allclose(found.matrix[np.ix_([0, 2, 4], [0, 2, 4])], rest.matrix, atol=1e-9)


def test_a_single_varying_unit_has_no_couplings() -> None:
    values = np.ones((10, 3), dtype=int)
    values[::2, 1] = -1
    assert not fit("ising", spins(values)).matrix.any()


def test_units_that_determine_each_other_are_named_near_separable() -> None:
    values = random_spins(2, observations=200, units=5)
    values[:, 4] = values[:, 0]  # an alias: each predicts the other without error
    assert fit("ising", spins(values)).diagnostics["near_separable"] == ["L0H0", "L0H4"]
    assert fit("ising", spins(values[:, :4])).diagnostics["near_separable"] == []


def test_fits_that_did_not_converge_are_named() -> None:
    found = fit("ising", spins(random_spins(3)), max_iter=1)
    assert found.diagnostics["not_converged"] == ["L0H0", "L0H1", "L0H2", "L0H3", "L0H4"]
    assert fit("ising", spins(random_spins(3))).diagnostics["not_converged"] == []


@given(st.integers(0, 2**32 - 1), st.permutations(range(5)))
@settings(max_examples=10)
def test_couplings_do_not_depend_on_the_order_of_units(seed: int, order: list[int]) -> None:
    values = random_spins(seed)
    straight = fit("ising", spins(values)).matrix
    np.testing.assert_allclose(fit("ising", spins(values[:, order])).matrix, straight[np.ix_(order, order)], atol=1e-8)


@pytest.mark.parametrize(
    "wrong",
    [
        {"l2": 0},
        {"l2": -1},
        {"max_iter": 0},
        {"transform": "square"},
        {"l2": "small"},
        {"l2": math.nan},
        {"l2": math.inf},
    ],
)
def test_invalid_parameters_of_ising_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(HarnessError, match=f"affinity.{next(iter(wrong))}="):
        fit("ising", spins(random_spins(0)), **wrong)


# ----------------------------------------------------------------------------------------------------------------------
# Mutual information
# ----------------------------------------------------------------------------------------------------------------------

any_spins = hnp.arrays(np.int8, st.tuples(st.integers(1, 30), st.integers(2, 6)), elements=st.sampled_from([-1, 1]))


@given(any_spins)
def test_mutual_information_is_scikit_learns_pair_by_pair(values: np.ndarray) -> None:
    matrix = fit("mutual_information", spins(values)).matrix
    for i, j in itertools.combinations(range(values.shape[1]), 2):
        assert matrix[i, j] == pytest.approx(mutual_info_score(values[:, i], values[:, j]), abs=1e-12)


@given(any_spins, st.sampled_from([0.0, 0.5, 3.0]))
def test_mutual_information_is_between_zero_and_one_bit(values: np.ndarray, pseudocount: float) -> None:
    matrix = fit("mutual_information", spins(values), pseudocount=pseudocount).matrix
    assert (matrix >= 0).all()
    assert (matrix <= math.log(2) + 1e-12).all()
    constant = list(spins(values).constant)
    assert not matrix[constant].any()


def test_units_that_are_always_equal_or_always_opposite_share_one_bit() -> None:
    half = np.array([1, -1] * 10)
    matrix = fit("mutual_information", spins(np.stack([half, half, -half], axis=1))).matrix
    assert matrix[0, 1] == matrix[0, 2] == pytest.approx(math.log(2))


def test_independent_units_have_zero_mutual_information() -> None:
    values = np.array(list(itertools.product([-1, 1], repeat=3)) * 5)
    np.testing.assert_allclose(fit("mutual_information", spins(values)).matrix, 0, atol=1e-15)


def test_a_pseudocount_is_added_to_each_of_the_four_counts() -> None:
    values = np.array([[1, 1]] * 3 + [[1, -1]] * 1 + [[-1, 1]] * 2 + [[-1, -1]] * 4)
    table = np.array([[3.5, 1.5], [2.5, 4.5]]) / 12
    expected = (table * np.log(table / np.outer(table.sum(1), table.sum(0)))).sum()
    found = fit("mutual_information", spins(values), pseudocount=0.5)
    assert found.matrix[0, 1] == pytest.approx(expected, rel=1e-12)


@given(any_spins, st.randoms(use_true_random=False))
def test_mutual_information_does_not_depend_on_the_order_of_units_to_the_last_bit(
    values: np.ndarray, random: Any
) -> None:
    order = list(range(values.shape[1]))
    random.shuffle(order)
    straight = fit("mutual_information", spins(values)).matrix
    np.testing.assert_array_equal(
        fit("mutual_information", spins(values[:, order])).matrix, straight[np.ix_(order, order)]
    )


def test_a_negative_pseudocount_is_refused() -> None:
    with pytest.raises(HarnessError, match=r"affinity\.pseudocount=-1"):
        fit("mutual_information", spins(random_spins(0)), pseudocount=-1)
