"""Contracts of what proposes: signals, binarizers, affinities, partitioners, selectors."""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.errors import HarnessError
from harness.groups import Affinity, Partition
from harness.recording import Activity, Recording, Spins
from harness.stages import Selection
from harness.testing import examples
from harness.testing.examples import UNITS
from harness.testing.rules import Check, require, usual_checks
from harness.units import UnitSpace

# ----------------------------------------------------------------------------------------------------------------------
# Signals
# ----------------------------------------------------------------------------------------------------------------------


def _recording(plugin: Any) -> tuple[Recording]:
    return (examples.read(plugin, "signal"),)


def _judge_activity(plugin: Any, activity: Any) -> None:
    require(plugin.source in ("attention", "head_output"), f"its source is {plugin.source!r}")
    require(isinstance(activity, Activity), f"it returns {type(activity).__name__}, not Activity")
    require(activity.units == UNITS, "its units are not those of the recording")
    _judge_observations(activity.values, len(examples.batch()))


def reads_one_layer_per_example_and_head(plugin: Any) -> None:
    """What it makes of one layer begins with [examples, heads]."""
    for seen in examples.rows(plugin.source, examples.batch(), at_once=4):
        made = plugin.read(seen)
        found, expected = np.shape(made)[:2], seen.values.shape[:2]
        require(found == expected, f"read gives {found}, not the {expected} of [examples, heads]")


def reads_a_batch_in_parts_as_it_does_at_once(plugin: Any) -> None:
    """Micro-batches are the subject's affair: they change no result."""
    whole, parts = plugin(*_recording(plugin)), plugin(examples.read(plugin, "signal", at_once=4))
    require(np.allclose(whole.values, parts.values, atol=1e-6), "activity depends on how the batch is cut into parts")


SIGNAL: tuple[Check, ...] = (
    *usual_checks(_recording, _judge_activity),
    reads_one_layer_per_example_and_head,
    reads_a_batch_in_parts_as_it_does_at_once,
)

# ----------------------------------------------------------------------------------------------------------------------
# Binarizers
# ----------------------------------------------------------------------------------------------------------------------


def _judge_spins(_: Any, spins: Any) -> None:
    require(isinstance(spins, (Spins, Activity)), f"it returns {type(spins).__name__}, not Spins")
    require(spins.units == UNITS, "its units are not those of the activity")
    _judge_observations(spins.values, examples.OBSERVATIONS)
    if isinstance(spins, Spins):
        require(np.isin(spins.values, (-1, 1)).all(), "spins are not all -1 or +1")


def is_monotone_in_the_activity_of_each_unit(plugin: Any) -> None:
    """More activity never turns a spin down."""
    activity = examples.activity()
    order = np.argsort(activity.values, axis=0)
    ranked = np.take_along_axis(plugin(activity).values.astype(float), order, axis=0)
    require((np.diff(ranked, axis=0) >= 0).all(), "an observation with more activity has a lower spin")


def answers_on_constant_activity(plugin: Any) -> None:
    """A head that is always the same is no error."""
    values = examples.activity().values.copy()
    values[:, 3] = 0.5
    _judge_spins(plugin, plugin(Activity(values, UNITS)))


BINARIZER: tuple[Check, ...] = (
    *usual_checks(lambda _: (examples.activity(),), _judge_spins),
    is_monotone_in_the_activity_of_each_unit,
    answers_on_constant_activity,
)

# ----------------------------------------------------------------------------------------------------------------------
# Affinities
# ----------------------------------------------------------------------------------------------------------------------


def _judge_affinity(_: Any, affinity: Any, units: UnitSpace = UNITS) -> None:
    require(isinstance(affinity, Affinity), f"it returns {type(affinity).__name__}, not Affinity")
    matrix = affinity.matrix
    require(matrix.shape == (len(units), len(units)), f"a matrix of shape {matrix.shape} for {len(units)} units")
    require(affinity.units == units, "its units are not those of the spins")
    require(np.isfinite(matrix).all(), "it holds NaN or infinity")
    require(np.allclose(matrix, matrix.T, rtol=1e-6, atol=1e-9), "it is not symmetric")
    require(not np.diagonal(matrix).any(), "its diagonal is not zero")


def does_not_depend_on_the_order_of_units(plugin: Any) -> None:
    """Shuffled units give the same matrix, shuffled."""
    given = examples.spins()
    straight = plugin(given).matrix
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(UNITS))
        shuffled = plugin(Spins(given.values[:, order], UnitSpace(tuple(UNITS.units[i] for i in order)))).matrix
        worst = np.abs(straight[np.ix_(order, order)] - shuffled).max()
        require(
            worst <= 1e-8 * max(1.0, np.abs(straight).max()), f"entries change by {worst:.1e} when units change places"
        )


def answers_on_units_that_never_change(plugin: Any) -> None:
    """Always on, or dead: some units, then all of them."""
    values = examples.spins().values.copy()
    values[:, 2], values[:, 5] = 1, -1
    _judge_affinity(plugin, plugin(Spins(values, UNITS)))
    _judge_affinity(plugin, plugin(Spins(np.ones_like(values), UNITS)))


def answers_on_two_units(plugin: Any) -> None:
    """The smallest input there is something to say about."""
    given = examples.spins(2)
    _judge_affinity(plugin, plugin(given), given.units)


AFFINITY: tuple[Check, ...] = (
    *usual_checks(lambda _: (examples.spins(),), _judge_affinity),
    does_not_depend_on_the_order_of_units,
    answers_on_units_that_never_change,
    answers_on_two_units,
)

# ----------------------------------------------------------------------------------------------------------------------
# Partitioners
# ----------------------------------------------------------------------------------------------------------------------


def _judge_partitions(plugin: Any, partitions: Any, n: int = len(UNITS)) -> None:
    require(isinstance(partitions, list) and partitions, "it returns no list of partitions")
    for partition in partitions:
        require(isinstance(partition, Partition), f"it returns {type(partition).__name__}, not Partition")
        labels = partition.labels
        require(labels.shape == (n,), f"labels of shape {labels.shape} for {n} units")
        require(np.issubdtype(labels.dtype, np.integer), f"labels are {labels.dtype}, not integers")
        require(len(np.unique(labels)) <= partition.k, f"{len(np.unique(labels))} groups, {partition.k} were asked for")
    wanted = getattr(plugin, "k", None)
    if wanted is not None:
        asked = [wanted] if isinstance(wanted, int) else list(wanted)
        require([p.k for p in partitions] == asked, f"k={asked} was asked for, {[p.k for p in partitions]} came")


def answers_or_explains_itself_on_three_units(plugin: Any) -> None:
    """Partitions of three units, or a sentence that says why not."""
    try:
        _judge_partitions(plugin, plugin(examples.affinity(3)), 3)
    except HarnessError as error:
        require(error.what.endswith("."), f"its refusal is no sentence: {error.what}")


PARTITIONER: tuple[Check, ...] = (
    *usual_checks(lambda _: (examples.affinity(),), _judge_partitions),
    answers_or_explains_itself_on_three_units,
)

# ----------------------------------------------------------------------------------------------------------------------
# Selectors
# ----------------------------------------------------------------------------------------------------------------------


def _proposed(_: Any) -> tuple[Any, ...]:
    return examples.partitions(), examples.affinity(), examples.labels()


def _judge_selection(plugin: Any, selection: Any) -> None:
    require(isinstance(selection, Selection), f"it returns {type(selection).__name__}, not Selection")
    ks = [partition.k for partition in examples.partitions()]
    require(selection.chosen_k is None or selection.chosen_k in ks, f"k={selection.chosen_k} was not partitioned")
    for candidate in selection.candidates:
        members = candidate.members
        require(members and len(set(members)) == len(members), "a candidate is empty, or names a unit twice")
        require(set(members) <= set(range(len(UNITS))), "a candidate has members that are no units")
        low, high = getattr(plugin, "min_size", 1), getattr(plugin, "max_size", len(UNITS))
        require(low <= len(members) <= high, f"a candidate of {len(members)} units; {low} to {high} were allowed")
    wanted = getattr(plugin, "count", len(UNITS))
    require(len(selection.candidates) <= wanted, f"{len(selection.candidates)} candidates, {wanted} were asked for")


def answers_where_no_unit_has_a_class(plugin: Any) -> None:
    """Without labels it may select nothing, but it answers."""
    _judge_selection(plugin, plugin(examples.partitions(), examples.affinity(), examples.labels(known=False)))


SELECTOR: tuple[Check, ...] = (*usual_checks(_proposed, _judge_selection), answers_where_no_unit_has_a_class)


def _judge_observations(values: Any, observations: int) -> None:
    require(np.shape(values) == (observations, len(UNITS)), f"shape {np.shape(values)}, not [observations, units]")
    require(np.isfinite(values).all(), "it holds NaN or infinity")
