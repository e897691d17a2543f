"""Checks of the stages that make activity and spins: signals, transforms, binarizers."""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.data.recording import SOURCES, Activity, Spins
from harness.testing import examples
from harness.testing.checks import Check, NotChecked, require, usual_checks
from harness.testing.examples import UNITS

# ----------------------------------------------------------------------------------------------------------------------
# Signals
# ----------------------------------------------------------------------------------------------------------------------


def _recorded(plugin: Any, at_once: int = 100) -> dict[str, Any]:
    if plugin.source not in SOURCES:
        raise NotChecked(f"it reads '{plugin.source}'; the checks know {', '.join(SOURCES)}")
    seen = {name: make(plugin, "signal", at_once) for name, make in examples.RECORDED.items()}
    return examples.given(plugin, **seen)


def _judge_activity(_: Any, activity: Any) -> None:
    require(isinstance(activity, Activity), f"it returns {type(activity).__name__}, not Activity")
    require(activity.units == UNITS, "its units are not those of the recording")
    observations = len(examples.batch()) if activity.position is None else len(activity.position)
    _judge_observations(activity.values, observations)


def reads_one_layer_per_example_and_head(plugin: Any) -> None:
    """The result for one layer has the shape [examples, heads, ...]."""
    for seen in examples.rows(plugin.source, examples.batch(), at_once=4):
        shape, expected = np.shape(plugin.read(seen))[:2], seen.values.shape[:2]
        require(shape == expected, f"read returns the shape {shape}, not {expected} [examples, heads]")


def does_not_depend_on_micro_batches(plugin: Any) -> None:
    """How a subject splits the batch into micro-batches has no effect."""
    whole, parts = plugin(**_recorded(plugin)), plugin(**_recorded(plugin, at_once=4))
    require(
        np.allclose(whole.values, parts.values, atol=1e-6),
        "activity depends on the micro-batches: treat each example independently in `read`",
    )


SIGNAL: tuple[Check, ...] = (
    *usual_checks(_recorded, _judge_activity),
    reads_one_layer_per_example_and_head,
    does_not_depend_on_micro_batches,
)

# ----------------------------------------------------------------------------------------------------------------------
# Transforms
# ----------------------------------------------------------------------------------------------------------------------


def _judge_transformed(_: Any, activity: Any) -> None:
    require(isinstance(activity, Activity), f"it returns {type(activity).__name__}, not Activity")
    require(activity.units == UNITS, "its units are not those of the activity")
    _judge_observations(activity.values, examples.OBSERVATIONS)


def transforms_permuted_units_alike(plugin: Any) -> None:
    """Permuted units give the same activity, permuted."""
    straight = plugin(**examples.given(plugin)).values
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(UNITS))
        shuffled = plugin(**examples.shuffled(plugin, order)).values
        require(
            np.allclose(straight[:, order], shuffled, atol=1e-8),
            "activity changes when units are permuted: use units.canonical",
        )


def transforms_constant_activity(plugin: Any) -> None:
    """A constant unit gives no error and stays finite."""
    values = examples.activity().values.copy()
    values[:, 3] = 0.5
    _judge_transformed(plugin, plugin(**examples.given(plugin, activity=Activity(values, UNITS))))


TRANSFORM: tuple[Check, ...] = (
    *usual_checks(examples.given, _judge_transformed),
    transforms_permuted_units_alike,
    transforms_constant_activity,
)

# ----------------------------------------------------------------------------------------------------------------------
# Binarizers
# ----------------------------------------------------------------------------------------------------------------------


def _judge_spins(_: Any, spins: Any) -> None:
    require(isinstance(spins, (Spins, Activity)), f"it returns {type(spins).__name__}, not Spins")
    require(spins.units == UNITS, "its units are not those of the activity")
    _judge_observations(spins.values, examples.OBSERVATIONS)
    if isinstance(spins, Spins):
        require(np.isin(spins.values, (-1, 1)).all(), "spins must be -1 or +1")


def is_monotone_in_the_activity_of_each_unit(plugin: Any) -> None:
    """An observation with more activity never has a lower spin."""
    activity = examples.activity()
    order = np.argsort(activity.values, axis=0)
    ranked = np.take_along_axis(plugin(activity).values.astype(float), order, axis=0)
    require((np.diff(ranked, axis=0) >= 0).all(), "an observation with more activity has a lower spin")


def answers_on_constant_activity(plugin: Any) -> None:
    """A constant unit gives no error, and its spins are constant."""
    values = examples.activity().values.copy()
    values[:, 3] = 0.5
    spins = plugin(Activity(values, UNITS))
    _judge_spins(plugin, spins)
    require(3 in spins.constant, "a unit with constant activity has spins that change")


BINARIZER: tuple[Check, ...] = (
    *usual_checks(examples.given, _judge_spins),
    is_monotone_in_the_activity_of_each_unit,
    answers_on_constant_activity,
)


def _judge_observations(values: Any, observations: int) -> None:
    require(np.shape(values) == (observations, len(UNITS)), f"shape {np.shape(values)}, not [observations, units]")
    require(np.isfinite(values).all(), "it contains NaN or infinity")
