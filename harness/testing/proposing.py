"""Contracts of what proposes: signals, transforms, binarizers, affinities, partitioners, choosers, selectors."""

from __future__ import annotations

import math
from typing import Any, get_args

import numpy as np
from scipy.sparse import csr_array

from harness.data.grouping import Affinity, Candidate, Partition
from harness.data.recording import Activity, Source, Spins
from harness.data.stages import inputs_of
from harness.data.units import UnitSpace
from harness.testing import examples
from harness.testing.examples import UNITS
from harness.testing.rules import Check, contents, require, usual_checks
from harness.util.errors import HarnessError

# ----------------------------------------------------------------------------------------------------------------------
# Signals
# ----------------------------------------------------------------------------------------------------------------------


def _recorded(plugin: Any, at_once: int = 100) -> dict[str, Any]:
    return {"recording": examples.read(plugin, "signal", at_once)}


def _judge_activity(plugin: Any, activity: Any) -> None:
    require(plugin.source in get_args(Source), f"its source is {plugin.source!r}")
    require(isinstance(activity, Activity), f"it returns {type(activity).__name__}, not Activity")
    require(activity.units == UNITS, "its units are not those of the recording")
    observations = len(examples.batch()) if activity.position is None else len(activity.position)
    _judge_observations(activity.values, observations)


def reads_one_layer_per_example_and_head(plugin: Any) -> None:
    """What it makes of one layer begins with [examples, heads]."""
    for seen in examples.rows(plugin.source, examples.batch(), at_once=4):
        made = plugin.read(seen)
        found, expected = np.shape(made)[:2], seen.values.shape[:2]
        require(found == expected, f"read gives {found}, not the {expected} of [examples, heads]")


def reads_a_batch_in_parts_as_it_does_at_once(plugin: Any) -> None:
    """Micro-batches are the subject's affair: they change no result."""
    whole, parts = plugin(**_recorded(plugin)), plugin(**_recorded(plugin, at_once=4))
    require(np.allclose(whole.values, parts.values, atol=1e-6), "activity depends on how the batch is cut into parts")


SIGNAL: tuple[Check, ...] = (
    *usual_checks(_recorded, _judge_activity),
    reads_one_layer_per_example_and_head,
    reads_a_batch_in_parts_as_it_does_at_once,
)

# ----------------------------------------------------------------------------------------------------------------------
# Transforms
# ----------------------------------------------------------------------------------------------------------------------


def _judge_transformed(_: Any, activity: Any) -> None:
    require(isinstance(activity, Activity), f"it returns {type(activity).__name__}, not Activity")
    require(activity.units == UNITS, "its units are not those of the activity")
    _judge_observations(activity.values, examples.OBSERVATIONS)


def transforms_units_in_any_order_alike(plugin: Any) -> None:
    """Shuffled units give the same activity, shuffled."""
    straight = plugin(**examples.given(plugin)).values
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(UNITS))
        shuffled = plugin(**examples.shuffled(plugin, order)).values
        require(np.allclose(straight[:, order], shuffled, atol=1e-8), "activity changes when units change places")


def transforms_constant_activity(plugin: Any) -> None:
    """A unit that is always the same stays so: what comes next names it."""
    values = examples.activity().values.copy()
    values[:, 3] = 0.5
    made = plugin(**examples.given(plugin, activity=Activity(values, UNITS)))
    _judge_transformed(plugin, made)


TRANSFORM: tuple[Check, ...] = (
    *usual_checks(examples.given, _judge_transformed),
    transforms_units_in_any_order_alike,
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
        require(np.isin(spins.values, (-1, 1)).all(), "spins are not all -1 or +1")


def is_monotone_in_the_activity_of_each_unit(plugin: Any) -> None:
    """More activity never turns a spin down."""
    activity = examples.activity()
    order = np.argsort(activity.values, axis=0)
    ranked = np.take_along_axis(plugin(activity).values.astype(float), order, axis=0)
    require((np.diff(ranked, axis=0) >= 0).all(), "an observation with more activity has a lower spin")


def answers_on_constant_activity(plugin: Any) -> None:
    """A head that is always the same is no error, and is found among the constant ones afterwards."""
    values = examples.activity().values.copy()
    values[:, 3] = 0.5
    made = plugin(Activity(values, UNITS))
    _judge_spins(plugin, made)
    require(3 in made.constant, "a unit whose activity never changes has spins that do")


BINARIZER: tuple[Check, ...] = (
    *usual_checks(examples.given, _judge_spins),
    is_monotone_in_the_activity_of_each_unit,
    answers_on_constant_activity,
)

# ----------------------------------------------------------------------------------------------------------------------
# Affinities
# ----------------------------------------------------------------------------------------------------------------------


def _judge_affinity(_: Any, affinity: Any, units: UnitSpace = UNITS) -> None:
    require(isinstance(affinity, Affinity), f"it returns {type(affinity).__name__}, not Affinity")
    matrix = affinity.dense()
    require(matrix.shape == (len(units), len(units)), f"a matrix of shape {matrix.shape} for {len(units)} units")
    require(affinity.units == units, "its units are not those it was given")
    require(np.isfinite(matrix).all(), "it holds NaN or infinity")
    require(np.allclose(matrix, matrix.T, rtol=1e-6, atol=1e-9), "it is not symmetric")
    require(not np.diagonal(matrix).any(), "its diagonal is not zero")


def does_not_depend_on_the_order_of_units(plugin: Any) -> None:
    """Shuffled units give the same matrix, shuffled."""
    straight = plugin(**examples.given(plugin)).dense()
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(UNITS))
        shuffled = plugin(**examples.shuffled(plugin, order)).dense()
        worst = np.abs(straight[np.ix_(order, order)] - shuffled).max()
        require(
            worst <= 1e-8 * max(1.0, np.abs(straight).max()), f"entries change by {worst:.1e} when units change places"
        )


def takes_activity_where_it_asks_for_observations(plugin: Any) -> None:
    """Observations are of two kinds; who asks for spins is given spins only."""
    if "observations" not in inputs_of(type(plugin)):
        return
    _judge_affinity(plugin, plugin(**examples.given(plugin, observations=examples.activity())))


def answers_on_units_that_never_change(plugin: Any) -> None:
    """Always on, or dead: some units, then all of them."""
    values = examples.spins().values.copy()
    values[:, 2], values[:, 5] = 1, -1
    for spins in (Spins(values, UNITS), Spins(np.ones_like(values), UNITS)):
        _judge_affinity(plugin, plugin(**examples.given(plugin, spins=spins, observations=spins)))


def answers_on_two_units(plugin: Any) -> None:
    """The smallest input there is something to say about."""
    _judge_affinity(plugin, plugin(**examples.small(plugin, 2)), UnitSpace(UNITS.units[:2]))


AFFINITY: tuple[Check, ...] = (
    *usual_checks(examples.given, _judge_affinity, may_need_a_file=True),
    does_not_depend_on_the_order_of_units,
    takes_activity_where_it_asks_for_observations,
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
        require(labels.min() >= -1, f"a label of {labels.min()}: groups count from 0, -1 is in no group")
        found = len(partition.groups())
        require(found <= partition.k, f"{found} groups, {partition.k} were asked for")
    wanted = plugin.k
    if wanted is not None:
        sizes = [wanted] if isinstance(wanted, int) else list(wanted)
        require([p.k for p in partitions] == sizes, f"k={sizes} was asked for, {[p.k for p in partitions]} came")


def finds_groups_where_there_are_some(plugin: Any) -> None:
    """Three blocks of eight units: some partition has groups, and not all units in one."""
    require(any(not p.trivial for p in plugin(**examples.given(plugin))), "no partition tells any units apart")


def offers_the_same_partitions_in_any_order(plugin: Any) -> None:
    """Three clear blocks, shuffled: the same list of partitions.

    Members may differ: an algorithm's start can depend on the order; how much, is part of every record's stability.
    """
    straight = plugin(**examples.given(plugin))
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(UNITS))
        shuffled = plugin(**examples.shuffled(plugin, order))
        require([p.name for p in straight] == [p.name for p in shuffled], "other partitions come in another order")


def answers_or_explains_itself_on_three_units(plugin: Any) -> None:
    """Partitions of three units, or a sentence that says why not."""
    try:
        _judge_partitions(plugin, plugin(**examples.small(plugin, 3)), 3)
    except HarnessError as error:
        require(error.what.endswith("."), f"its refusal is no sentence: {error.what}")


def answers_or_explains_itself_where_nothing_is_alike(plugin: Any) -> None:
    """An affinity of nothing but zeros: partitions, or a sentence that says why not."""
    nothing = Affinity(np.zeros((len(UNITS), len(UNITS))), UNITS)
    try:
        _judge_partitions(plugin, plugin(**examples.given(plugin, affinity=nothing)))
    except HarnessError as error:
        require(error.what.endswith("."), f"its refusal is no sentence: {error.what}")


def takes_a_sparse_affinity_as_it_takes_a_dense_one(plugin: Any) -> None:
    """What is not stored is zero: the same answer. Ask an affinity for its ``links``, or for ``dense()`` pairs."""
    if "affinity" not in inputs_of(type(plugin)):
        return
    dense = examples.affinity()
    few = np.where(dense.matrix > 0.5, dense.matrix, 0.0)  # links inside blocks only
    answers = [plugin(**examples.given(plugin, affinity=Affinity(kind(few), UNITS))) for kind in (np.array, csr_array)]
    require(contents(answers[0]) == contents(answers[1]), "a sparse affinity gives another answer than a dense one")


PARTITIONER: tuple[Check, ...] = (
    *usual_checks(examples.given, _judge_partitions),
    finds_groups_where_there_are_some,
    offers_the_same_partitions_in_any_order,
    answers_or_explains_itself_on_three_units,
    answers_or_explains_itself_where_nothing_is_alike,
    takes_a_sparse_affinity_as_it_takes_a_dense_one,
)

# ----------------------------------------------------------------------------------------------------------------------
# Choosers
# ----------------------------------------------------------------------------------------------------------------------


def _judge_quality(_: Any, scores: Any) -> None:
    scores = list(scores)
    n = len(examples.partitions())
    require(len(scores) == n, f"{len(scores)} scores for {n} partitions")
    for score in scores:
        good = score is None or (isinstance(score, (int, float)) and math.isfinite(score))
        require(good, f"a score of {score!r}: a finite number, or None where there is nothing to say")


def says_something_about_ordinary_partitions(plugin: Any) -> None:
    """At least one of them can be chosen."""
    require(any(s is not None for s in plugin(**examples.given(plugin))), "it has nothing to say about any partition")


def scores_each_partition_wherever_it_stands(plugin: Any) -> None:
    """Partitions in another order have the same scores."""
    made = examples.partitions()
    straight = list(plugin(**examples.given(plugin)))
    backward = list(plugin(**examples.given(plugin, partitions=made[::-1])))[::-1]
    require(straight == backward, "a partition's score depends on where it stands in the list")


CHOOSER: tuple[Check, ...] = (
    *usual_checks(examples.given, _judge_quality),
    says_something_about_ordinary_partitions,
    scores_each_partition_wherever_it_stands,
    takes_a_sparse_affinity_as_it_takes_a_dense_one,
)

# ----------------------------------------------------------------------------------------------------------------------
# Selectors
# ----------------------------------------------------------------------------------------------------------------------


def _judge_selection(plugin: Any, selected: Any) -> None:
    require(isinstance(selected, (list, tuple)), f"it returns {type(selected).__name__}, not a list of candidates")
    for candidate in selected:
        require(isinstance(candidate, Candidate), f"it selects {type(candidate).__name__}, not Candidate")
        members = candidate.members
        require(members and len(set(members)) == len(members), "a candidate is empty, or names a unit twice")
        require(set(members) <= set(range(len(UNITS))), "a candidate has members that are no units")
        low = plugin.min_size or 1
        high = plugin.max_size or len(UNITS)
        require(low <= len(members) <= high, f"a candidate of {len(members)} units; {low} to {high} were allowed")
    wanted = len(UNITS) if plugin.count is None else plugin.count
    require(len(selected) <= wanted, f"{len(selected)} candidates, {wanted} were asked for")


def answers_where_no_unit_has_a_class(plugin: Any) -> None:
    """Without labels it may select nothing, but it answers."""
    _judge_selection(plugin, plugin(**examples.given(plugin, labels=examples.labels(known=False))))


def leaves_out_units_in_no_group(plugin: Any) -> None:
    """A label of -1 is no group."""
    labels = np.where(np.arange(len(UNITS)) < 16, examples.BLOCKS, -1)
    selected = plugin(**examples.given(plugin, partition=Partition(3, labels)))
    _judge_selection(plugin, selected)
    require(all(max(c.members) < 16 for c in selected), "it selects units that are in no group")


SELECTOR: tuple[Check, ...] = (
    *usual_checks(examples.given, _judge_selection),
    answers_where_no_unit_has_a_class,
    leaves_out_units_in_no_group,
    takes_a_sparse_affinity_as_it_takes_a_dense_one,
)


def _judge_observations(values: Any, observations: int) -> None:
    require(np.shape(values) == (observations, len(UNITS)), f"shape {np.shape(values)}, not [observations, units]")
    require(np.isfinite(values).all(), "it holds NaN or infinity")
