"""Signals and binarizers: the activity of a head's row, and the half of the observations that is up."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from harness.data.recording import Activity, Recording, Rows, Spins
from harness.data.units import UnitSpace
from harness.registry.config import registry
from harness.testing import examples
from harness.util.errors import HarnessError


def median(values: np.ndarray) -> Spins:
    spins: Spins = registry().get("binarizer", "median").build({})(Activity(values, UnitSpace.heads([values.shape[1]])))
    return spins


@given(st.integers(2, 25), st.integers(0, 2**32 - 1))
def test_a_median_split_is_as_even_as_can_be_without_ties(n: int, seed: int) -> None:
    values = np.random.default_rng(seed).permuted(np.tile(np.arange(n, dtype=float), (3, 1)), axis=1).T
    assert ((median(values).values == 1).sum(axis=0) == n // 2).all()


@given(hnp.arrays(np.float64, st.tuples(st.integers(2, 12), st.integers(1, 4)), elements=st.integers(0, 4).map(float)))
def test_spins_are_up_strictly_above_torchs_median(values: np.ndarray) -> None:
    """The published scripts split at torch.median, which is the lower of two middle values."""
    expected = torch.from_numpy(values) > torch.from_numpy(values).median(dim=0).values
    np.testing.assert_array_equal(median(values).values == 1, expected.numpy())


def test_observations_that_tie_with_the_median_are_counted_by_unit() -> None:
    values = np.array([[1, 1, 5], [2, 1, 5], [2, 1, 5], [2, 4, 5], [9, 9, 5]], dtype=float)
    spins = median(values)
    assert spins.diagnostics["tied"] == {"L0H0": 2, "L0H1": 2, "L0H2": 4}
    assert spins.values.T.tolist() == [[-1, -1, -1, -1, 1], [-1, -1, -1, 1, 1], [-1] * 5]


def test_units_that_are_never_up_are_named() -> None:
    saturated = np.array([[0.2, 0.7, 1.0], [1.0, 0.7, 0.3], [1.0, 0.7, 0.2]])  # the first one's median is its maximum
    spins = median(saturated)
    assert spins.diagnostics["constant"] == ["L0H0", "L0H1"]
    assert spins.constant == (0, 1)


def test_no_median_splits_one_observation() -> None:
    with pytest.raises(HarnessError, match="one observation"):
        median(np.ones((1, 2)))


def test_max_attention_is_the_largest_entry_of_each_row() -> None:
    plugin = registry().get("signal", "max_attention").build({})
    rows = np.array(
        [[[0.1, 0.6, 0.3, 0.0], [0.4, 0.3, 0.3, 0.0]], [[0.0, 0.0, 1.0, 0.0], [0.25] * 4]], dtype=np.float32
    )
    batch = examples.batch(2)
    read = plugin.read(Rows("attention", "L0.attn", rows, batch, batch, np.arange(2)))
    np.testing.assert_array_equal(read, np.array([[0.6, 0.4], [1.0, 0.25]], dtype=np.float32))
    units = UnitSpace.heads([2])
    np.testing.assert_array_equal(plugin(Recording(batch, units, {"signal": read})).values, read)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_activity_that_is_not_finite_is_refused_and_its_units_are_named(bad: float) -> None:
    values = np.zeros((4, 8))
    values[2, [1, 7]] = bad
    with pytest.raises(HarnessError, match=r"L0H1, L0H7\.") as caught:
        Activity(values, UnitSpace.heads([8]))
    assert "subject.dtype=float32" in caught.value.fix


def test_many_bad_units_are_not_all_named() -> None:
    with pytest.raises(HarnessError, match=r"L0H0, L0H1, L0H2, L0H3, L0H4 \.\.\."):
        Activity(np.full((2, 6), np.nan), UnitSpace.heads([6]))


@pytest.mark.parametrize("shape", [(3, 4), (3, 4, 7)])
def test_a_recording_that_is_not_finite_is_refused_before_it_becomes_a_class(shape: tuple[int, ...]) -> None:
    values = np.zeros(shape)
    values[(1, 2, *[3] * (len(shape) - 2))] = np.nan
    with pytest.raises(HarnessError, match=r"recording of labels is NaN or infinite for L0H2\."):
        Recording(examples.batch(3), UnitSpace.heads([4]), {"labels": values})


@pytest.mark.parametrize("bad", [0, 2, -3])
def test_spins_are_minus_one_or_plus_one(bad: int) -> None:
    values: Any = np.array([[1, -1], [bad, 1]], dtype=np.int8)
    with pytest.raises(HarnessError, match=r"-1 or \+1"):
        Spins(values, UnitSpace.heads([2]))


def test_constant_spins_of_either_sign_are_found() -> None:
    values = np.array([[1, -1, 1, -1], [1, -1, -1, 1]], dtype=np.int8)
    assert Spins(values, UnitSpace.heads([4])).constant == (0, 1)
