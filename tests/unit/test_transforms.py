"""Transforms: residuals of activity, and standardized activity."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.stats
from harness_plugins.transforms import residualize
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LinearRegression

from harness.data.batch import Batch
from harness.data.recording import Activity
from harness.data.tokens import Tokens
from harness.data.units import UnitSpace
from harness.registry.config import registry
from harness.util.errors import HarnessError

UNITS = UnitSpace.heads([4, 3, 1])
N = 50


def asked_at(query: np.ndarray) -> Batch:
    """Examples that differ only in their query positions."""
    n, nothing = len(query), np.zeros((len(query), 1), dtype=np.int64)
    return Tokens(
        "made", np.zeros((n, 1000), dtype=np.int64), query, nothing[:, 0], {"first-token": nothing}, "successor"
    )


def ragged(seed: int = 0, n: int = N) -> Batch:
    return asked_at(np.random.default_rng(seed).integers(20, 500, n))


def confounded(batch: Batch, seed: int = 1, units: UnitSpace = UNITS) -> Activity:
    """Every unit has its own signal and shares the query position and a signal of its layer."""
    rng = np.random.default_rng(seed)
    n = len(batch)
    layers, signals = rng.normal(size=(n, units.depth_of.max() + 1)), rng.normal(size=(n, len(units)))
    place = batch.query[:, None] / 250 * rng.normal(size=len(units))
    return Activity(signals + layers[:, units.depth_of] + place + rng.normal(size=len(units)), units)


def transform(name: str, activity: Activity, **given: Any) -> Activity:
    """Call the transform with the given inputs; ``on`` is its parameter."""
    parameters = {"on": given.pop("on")} if "on" in given else {}
    transformed: Activity = registry().get("transform", name).build(parameters)(activity, **given)
    return transformed


def others(activity: Activity, unit: int) -> np.ndarray | None:
    """The mean of the other units of its layer."""
    mates = [u for u in range(len(activity.units)) if activity.units.depth_of[u] == activity.units.depth_of[unit]]
    mates.remove(unit)
    return activity.values[:, mates].mean(axis=1) if mates else None


def ordered(activity: Activity, order: list[int]) -> Activity:
    return Activity(activity.values[:, order], UnitSpace(tuple(activity.units.units[i] for i in order)))


# ----------------------------------------------------------------------------------------------------------------------
# Residualize
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("on", [("position", "layer"), ("position",), ("layer",)])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("large", [residualize.LARGE, 2])
def test_residuals_are_those_of_the_regression_of_scikit_learn(
    seed: int, on: tuple[str, ...], large: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(residualize, "LARGE", large)
    batch = ragged(seed)
    activity = confounded(batch, seed)
    found = transform("residualize", activity, batch=batch, on=on).values
    for unit in range(len(UNITS)):
        regressors = [batch.query] if "position" in on else []
        if "layer" in on and (mean := others(activity, unit)) is not None:
            regressors.append(mean)
        design = np.stack(regressors, axis=1) if regressors else np.zeros((N, 1))
        expected = activity.values[:, unit] - LinearRegression().fit(design, activity.values[:, unit]).predict(design)
        np.testing.assert_allclose(found[:, unit], expected, atol=1e-10)


@given(st.integers(0, 2**32 - 1))
def test_residuals_do_not_correlate_with_position_or_the_rest_of_the_layer(seed: int) -> None:
    batch = ragged(seed)
    activity = confounded(batch, seed)
    found = transform("residualize", activity, batch=batch)
    np.testing.assert_allclose(found.values.mean(axis=0), 0, atol=1e-10)
    for unit in range(len(UNITS)):
        residual = found.values[:, unit]
        assert abs(np.corrcoef(residual, batch.query)[0, 1]) < 1e-10
        if (mean := others(activity, unit)) is not None:
            assert abs(np.corrcoef(residual, mean)[0, 1]) < 1e-10


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_unit_that_is_a_linear_function_of_position_becomes_constant(dtype: type) -> None:
    """Otherwise it would be rounding noise, which a binarizer would split into spins."""
    batch = ragged()
    values = confounded(batch).values.astype(dtype)
    values[:, 7] = (0.9 - 0.0013 * batch.query).astype(dtype)
    found = transform("residualize", Activity(values, UNITS), batch=batch)
    assert not found.values[:, 7].any()
    assert found.constant == (7,)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_unit_that_is_a_linear_function_of_position_and_its_layer_becomes_constant(dtype: type) -> None:
    batch = ragged()
    values = confounded(batch).values.astype(dtype)
    values[:, 4] = (2 - 0.01 * batch.query + 0.5 * values[:, [5, 6]].astype(float).mean(axis=1)).astype(dtype)
    assert transform("residualize", Activity(values, UNITS), batch=batch).constant == (4,)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_layer_that_follows_position_adds_nothing_to_it(dtype: type) -> None:
    """Two regressors that are equal up to rounding: their difference is not a regressor."""
    batch = ragged()
    values = confounded(batch).values
    values[:, 4] = 1 - 0.001 * batch.query
    values[:, 5] = 3 + 0.005 * batch.query
    activity = Activity(values.astype(dtype), UNITS)
    both = transform("residualize", activity, batch=batch).values
    alone = transform("residualize", activity, batch=batch, on=["position"]).values
    np.testing.assert_allclose(both[:, 6], alone[:, 6], atol=1e-5 if dtype is np.float32 else 1e-10)


def test_a_signal_that_is_independent_of_both_survives() -> None:
    rng = np.random.default_rng(0)
    batch = ragged(n=2000)
    signal = rng.normal(size=(2000, 8))
    shared = rng.normal(size=(2000, 1))
    activity = Activity(signal + 3 * shared + 0.02 * batch.query[:, None], UnitSpace.heads([8]))
    before, after = activity.values, transform("residualize", activity, batch=batch).values
    pairs = ~np.eye(8, dtype=bool)
    assert np.corrcoef(before.T)[pairs].min() > 0.85
    # By theory: regressing on the mean of 7 others leaves signal_i minus nearly that mean, whose signals cancel to 1/7.
    assert np.abs(np.corrcoef(after.T)[pairs]).max() < 0.25
    for unit in range(8):
        assert np.corrcoef(after[:, unit], signal[:, unit])[0, 1] == pytest.approx((1 + 1 / 7) ** -0.5, abs=0.02)


def test_a_unit_does_not_lose_its_own_signal_to_the_mean_of_its_layer() -> None:
    """It would if the mean included it: a unit ten times as large as the rest of its layer dominates the mean."""
    values = np.random.default_rng(0).normal(size=(2000, 4)) * [10, 1, 1, 1]
    found = transform("residualize", Activity(values, UnitSpace.heads([4])), batch=ragged(n=2000), on=["layer"])
    assert np.corrcoef(found.values[:, 0], values[:, 0])[0, 1] > 0.99


def test_a_single_unit_in_its_layer_is_residualized_only_on_position() -> None:
    batch = ragged()
    activity = confounded(batch)
    alone = transform("residualize", activity, batch=batch, on=["layer"]).values[:, 7]
    np.testing.assert_allclose(alone, activity.values[:, 7] - activity.values[:, 7].mean(), atol=1e-12)


def test_a_single_query_position_leaves_activity_unchanged() -> None:
    batch = asked_at(np.full(N, 63))
    activity = confounded(ragged())
    both, layer = (transform("residualize", activity, batch=batch, on=on) for on in (["position", "layer"], ["layer"]))
    np.testing.assert_array_equal(both.values, layer.values)
    nothing = transform("residualize", activity, batch=batch, on=["position"]).values
    np.testing.assert_allclose(nothing, activity.values - activity.values.mean(axis=0), atol=1e-12)


def test_constant_units_stay_constant_and_are_not_regressors() -> None:
    batch = ragged()
    values = confounded(batch).values
    values[:, [4, 5]] = 0.1, 0.7  # all the company that unit 6 has
    found = transform("residualize", Activity(values, UNITS), batch=batch, on=["layer"])
    assert found.constant == (4, 5)
    np.testing.assert_allclose(found.values[:, 6], values[:, 6] - values[:, 6].mean(), atol=1e-12)


def test_observations_that_are_not_examples_have_positions_of_their_own() -> None:
    batch, blocks = ragged(), ragged(seed=5, n=20)
    of_blocks = confounded(blocks)
    placed = Activity(of_blocks.values, UNITS, position=blocks.query.astype(float))
    expected = transform("residualize", of_blocks, batch=blocks).values
    np.testing.assert_array_equal(transform("residualize", placed, batch=batch).values, expected)
    with pytest.raises(HarnessError, match="50 query positions and 20 observations") as caught:
        transform("residualize", of_blocks, batch=batch)
    assert "transform.residualize.on=[layer]" in caught.value.fix
    transform("residualize", of_blocks, batch=batch, on=["layer"])


@given(st.permutations(range(8)))
def test_residuals_do_not_depend_on_the_order_of_units(order: list[int]) -> None:
    batch = ragged()
    activity = confounded(batch)
    straight = transform("residualize", activity, batch=batch).values
    found = transform("residualize", ordered(activity, order), batch=batch).values
    np.testing.assert_array_equal(found, straight[:, order])


@pytest.mark.parametrize("on", [[], ["depth"], "position"])
def test_the_regressors_have_to_be_named(on: Any) -> None:
    with pytest.raises(HarnessError, match=r"transform\.residualize\.on"):
        transform("residualize", confounded(ragged()), batch=ragged(), on=on)


# ----------------------------------------------------------------------------------------------------------------------
# Standardize
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_standardized_activity_is_the_z_score_of_scipy(dtype: type) -> None:
    values = confounded(ragged()).values.astype(dtype)
    found = transform("standardize", Activity(values, UNITS)).values
    np.testing.assert_allclose(found, scipy.stats.zscore(values.astype(np.float64), axis=0), atol=1e-12)
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(found.std(axis=0), 1, atol=1e-12)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e12])
def test_units_that_are_constant_up_to_rounding_become_zero_and_are_reported_as_constant(scale: float) -> None:
    values = confounded(ragged()).values
    values[:, 2] = 0.1
    values[:, 5] = np.where(np.arange(N) % 2, 0.3, 0.1 + 0.2) * scale  # the two differ in their last digit
    assert np.ptp(values[:, 5]) > 0
    found = transform("standardize", Activity(values, UNITS))
    assert not found.values[:, [2, 5]].any()
    assert found.constant == (2, 5)


def test_units_that_vary_little_are_not_constant() -> None:
    values = confounded(ragged()).values
    values[:, 0] = 1000 + 1e-6 * values[:, 0]
    assert transform("standardize", Activity(values, UNITS)).values[:, 0].std() == pytest.approx(1)


@given(st.permutations(range(8)))
def test_standardized_activity_does_not_depend_on_the_order_of_units(order: list[int]) -> None:
    activity = confounded(ragged())
    straight = transform("standardize", activity).values
    np.testing.assert_allclose(
        transform("standardize", ordered(activity, order)).values, straight[:, order], atol=1e-12
    )


# ----------------------------------------------------------------------------------------------------------------------
# Both
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["residualize", "standardize"])
def test_units_scores_and_positions_are_kept_and_the_input_is_not_changed(name: str) -> None:
    batch = ragged()
    values = confounded(batch).values
    activity = Activity(values.copy(), UNITS, own_scores=np.arange(8.0), position=batch.query.astype(float))
    found = transform(name, activity, **({"batch": batch} if name == "residualize" else {}))
    assert found.units == UNITS
    np.testing.assert_array_equal(found.scores.values, np.arange(8.0))
    np.testing.assert_array_equal(found.position, batch.query)
    np.testing.assert_array_equal(activity.values, values)
    assert found.values.shape == values.shape
