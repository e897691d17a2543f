"""Binarizers beside the median: mean, quantile, none."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from harness.data.recording import Activity, Spins
from harness.data.units import UnitSpace
from harness.registry.config import registry
from harness.util.errors import HarnessError

tied = hnp.arrays(np.float64, st.tuples(st.integers(2, 12), st.integers(1, 4)), elements=st.integers(0, 4).map(float))
tenths = tied.map(lambda values: values / 10)  # whose sums are rounded
anything = hnp.arrays(
    np.float64, st.tuples(st.integers(2, 12), st.integers(1, 4)), elements=st.floats(-1e6, 1e6, allow_subnormal=False)
)


def activity(values: np.ndarray) -> Activity:
    return Activity(values, UnitSpace.heads([values.shape[1]]))


def binarize(name: str, values: np.ndarray, **parameters: Any) -> Spins:
    spins: Spins = registry().get("binarizer", name).build(parameters)(activity(values))
    return spins


# ----------------------------------------------------------------------------------------------------------------------
# Mean
# ----------------------------------------------------------------------------------------------------------------------


@given(tied)
def test_spins_are_up_strictly_above_the_mean(values: np.ndarray) -> None:
    """Computed in exact fractions."""
    exact = [[Fraction(int(v)) for v in column] for column in values.T]
    expected = np.array([[v > sum(column) / len(column) for v in column] for column in exact]).T
    np.testing.assert_array_equal(binarize("mean", values).values == 1, expected)


@given(st.floats(-1e300, 1e300), st.integers(2, 40))
@example(0.1, 3)  # three times 0.1, divided by three, is more than 0.1
@example(0.7, 3)  # and 0.7 comes out as less
def test_a_constant_unit_is_never_above_its_mean_despite_rounding(value: float, n: int) -> None:
    values = np.stack([np.full(n, value), np.arange(n, dtype=float)], axis=1)
    spins = binarize("mean", values)
    assert spins.constant == (0,)
    assert spins.diagnostics["constant"] == ["L0H0"]
    assert spins.diagnostics["tied"].get("L0H0") == n - 1


@pytest.mark.parametrize("values", [tenths, anything], ids=["tenths", "anything"])
@given(data=st.data(), random=st.randoms(use_true_random=False))
def test_ties_with_the_mean_do_not_depend_on_the_order_of_observations_or_units(
    values: Any, data: st.DataObject, random: Any
) -> None:
    drawn = data.draw(values)
    rows, columns = list(range(drawn.shape[0])), list(range(drawn.shape[1]))
    random.shuffle(rows)
    random.shuffle(columns)
    straight = binarize("mean", drawn).values
    shuffled = binarize("mean", np.asfortranarray(drawn[np.ix_(rows, columns)])).values
    np.testing.assert_array_equal(shuffled, straight[np.ix_(rows, columns)])


def test_a_rarely_active_unit_is_up_only_in_its_active_observations() -> None:
    values = np.zeros((100, 1))
    values[[3, 40]] = 0.7
    assert np.flatnonzero(binarize("mean", values).values[:, 0] == 1).tolist() == [3, 40]
    assert binarize("median", values).values[3, 0] == 1  # the same here: the median is zero


def test_means_of_single_precision_are_taken_in_double() -> None:
    values = np.full((10_000, 2), 0.1, dtype=np.float32)
    values[::2, 1] = np.nextafter(np.float32(0.1), np.float32(1))
    spins = binarize("mean", values)
    assert spins.constant == (0,)
    np.testing.assert_array_equal(spins.values[:, 1] == 1, np.arange(10_000) % 2 == 0)


# ----------------------------------------------------------------------------------------------------------------------
# Quantile
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("values", [tied, anything], ids=["tied", "anything"])
@given(data=st.data())
def test_the_half_quantile_is_the_median_split(values: Any, data: st.DataObject) -> None:
    drawn = data.draw(values)
    found, median = binarize("quantile", drawn, q=0.5), binarize("median", drawn)
    np.testing.assert_array_equal(found.values, median.values)
    assert found.diagnostics == median.diagnostics


@given(anything, st.sampled_from([0.0, 0.125, 0.25, 0.5, 0.75, 0.875]))
def test_spins_are_up_strictly_above_torchs_lower_quantile(values: np.ndarray, q: float) -> None:
    held = torch.from_numpy(values)
    expected = held > torch.quantile(held, q, dim=0, interpolation="lower")
    np.testing.assert_array_equal(binarize("quantile", values, q=q).values == 1, expected.numpy())


@pytest.mark.parametrize(
    ("n", "q", "up"), [(101, 0.75, 25), (100, 0.75, 25), (100, 0.0, 99), (5, 0.9, 1), (2, 0.99, 1)]
)
def test_the_share_of_up_spins_without_ties_is_the_requested_one(n: int, q: float, up: int) -> None:
    values = np.random.default_rng(0).permutation(n).astype(float)[:, None]
    assert (binarize("quantile", values, q=q).values == 1).sum() == up


def test_ties_and_units_that_are_never_up_are_reported_as_for_the_median() -> None:
    values = np.array([[1, 1, 5], [2, 3, 5], [3, 3, 5], [3, 4, 5], [3, 9, 5]], dtype=float)
    spins = binarize("quantile", values, q=0.5)
    assert spins.diagnostics == {"tied": {"L0H0": 2, "L0H1": 1, "L0H2": 4}, "constant": ["L0H0", "L0H2"]}


@pytest.mark.parametrize("q", [-0.1, 1.0, 1.5, float("nan"), float("inf"), "half"])
def test_a_quantile_outside_its_range_is_refused(q: Any) -> None:
    with pytest.raises(HarnessError, match=r"binarizer\.q="):
        binarize("quantile", np.ones((4, 1)), q=q)


# ----------------------------------------------------------------------------------------------------------------------
# None, and what all share
# ----------------------------------------------------------------------------------------------------------------------


def test_none_returns_the_activity_unchanged() -> None:
    given = activity(np.random.default_rng(0).normal(size=(5, 3)))
    assert registry().get("binarizer", "none").build({})(given) is given


@pytest.mark.parametrize("name", ["pearson", "pearson_knn", "partial_correlation", "cosine"])
def test_the_affinities_named_by_none_accept_activity(name: str) -> None:
    method = registry().get("affinity", name)
    given = activity(np.random.default_rng(0).normal(size=(20, 3)))
    assert method.build({})(registry().get("binarizer", "none").build({})(given)).links.nnz
    assert f"``{name}``" in (registry().get("binarizer", "none").cls.__doc__ or "")


@pytest.mark.parametrize("name", ["mean", "quantile"])
def test_one_observation_is_not_split(name: str) -> None:
    with pytest.raises(HarnessError, match=f"binarizer {name}: there is one observation") as caught:
        binarize(name, np.ones((1, 2)))
    assert "at least two are needed" in caught.value.what
    assert "batch.n" in caught.value.fix


@pytest.mark.parametrize("name", ["mean", "quantile"])
@given(values=anything, data=st.data())
def test_spins_do_not_depend_on_the_order_of_units(name: str, values: np.ndarray, data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(values.shape[1])))
    np.testing.assert_array_equal(binarize(name, values[:, order]).values, binarize(name, values).values[:, order])
