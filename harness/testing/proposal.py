"""Checks of the stages that make groups from spins: affinities, partitioners, choosers, selectors."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from harness.data.grouping import Affinity, Candidate, Partition
from harness.data.recording import Spins
from harness.data.stages import inputs_of
from harness.data.units import UnitSpace
from harness.testing import examples
from harness.testing.checks import Check, contents, require, require_sentence, usual_checks
from harness.testing.examples import UNITS
from harness.util.errors import HarnessError

# ----------------------------------------------------------------------------------------------------------------------
# Affinities
# ----------------------------------------------------------------------------------------------------------------------


def _judge_affinity(_: Any, affinity: Any, units: UnitSpace = UNITS) -> None:
    require(isinstance(affinity, Affinity), f"it returns {type(affinity).__name__}, not Affinity")
    matrix = affinity.dense()
    require(
        matrix.shape == (len(units), len(units)),
        f"its matrix has shape {matrix.shape}, but there are {len(units)} units",
    )
    require(affinity.units == units, "its units are not those it was given")
    require(np.isfinite(matrix).all(), "it contains NaN or infinity")
    require(np.allclose(matrix, matrix.T, rtol=1e-6, atol=1e-9), "it is not symmetric: return (A + A.T) / 2")
    require(not np.diagonal(matrix).any(), "its diagonal is not zero: use np.fill_diagonal(matrix, 0)")


def does_not_depend_on_the_order_of_units(plugin: Any) -> None:
    """Permuted units give the same matrix, permuted."""
    straight = plugin(**examples.given(plugin)).dense()
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(UNITS))
        shuffled = plugin(**examples.shuffled(plugin, order)).dense()
        worst = np.abs(straight[np.ix_(order, order)] - shuffled).max()
        require(
            worst <= 1e-8 * max(1.0, np.abs(straight).max()), f"entries change by {worst:.1e} when units are permuted"
        )


def accepts_activity_as_observations(plugin: Any) -> None:
    """Observations may be spins or activity. A method that needs spins requests `spins`."""
    if "observations" not in inputs_of(type(plugin)):
        return
    _judge_affinity(plugin, plugin(**examples.given(plugin, observations=examples.activity())))


def answers_on_units_that_never_change(plugin: Any) -> None:
    """Some units are always on or dead, then all of them."""
    values = examples.spins().values.copy()
    values[:, 2], values[:, 5] = 1, -1
    for spins in (Spins(values, UNITS), Spins(np.ones_like(values), UNITS)):
        _judge_affinity(plugin, plugin(**examples.given(plugin, spins=spins, observations=spins)))


def answers_on_two_units(plugin: Any) -> None:
    """The smallest input that has a pair of units."""
    _judge_affinity(plugin, plugin(**examples.small(plugin, 2)), UnitSpace(UNITS.units[:2]))


AFFINITY: tuple[Check, ...] = (
    *usual_checks(examples.given, _judge_affinity, may_need_a_file=True),
    does_not_depend_on_the_order_of_units,
    accepts_activity_as_observations,
    answers_on_units_that_never_change,
    answers_on_two_units,
)

# ----------------------------------------------------------------------------------------------------------------------
# Partitioners
# ----------------------------------------------------------------------------------------------------------------------


def _judge_partitions(plugin: Any, partitions: Any, n: int = len(UNITS)) -> None:
    require(isinstance(partitions, list) and partitions, "it must return a non-empty list of partitions")
    for partition in partitions:
        require(isinstance(partition, Partition), f"it returns {type(partition).__name__}, not Partition")
        labels = partition.labels
        require(labels.shape == (n,), f"labels have shape {labels.shape}, but there are {n} units")
        require(np.issubdtype(labels.dtype, np.integer), f"labels are {labels.dtype}, not integers")
        require(
            labels.min() >= -1, f"a label is {labels.min()}: number groups from 0, and use -1 for units without a group"
        )
        count = len(partition.groups())
        require(count <= partition.k, f"it finds {count} groups, more than k={partition.k}")
    if plugin.k is not None:
        requested = [plugin.k] if isinstance(plugin.k, int) else list(plugin.k)
        returned = [partition.k for partition in partitions]
        require(returned == requested, f"it returns partitions with k={returned}, not the requested k={requested}")


def finds_groups_where_there_are_some(plugin: Any) -> None:
    """Three blocks of eight units: at least one partition separates some units."""
    require(any(not p.trivial for p in plugin(**examples.given(plugin))), "no partition separates any units")


def offers_the_same_partitions_for_any_order_of_units(plugin: Any) -> None:
    """Three clear blocks, permuted: a list of partitions with the same names.

    Members may differ, because the start of an algorithm may depend on the order. Every record reports this as
    stability.
    """
    straight = plugin(**examples.given(plugin))
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(UNITS))
        shuffled = plugin(**examples.shuffled(plugin, order))
        require(
            [p.name for p in straight] == [p.name for p in shuffled],
            "the names of partitions change when units are permuted",
        )


def answers_or_refuses_three_units(plugin: Any) -> None:
    """Partitions of three units, or an error message."""
    try:
        _judge_partitions(plugin, plugin(**examples.small(plugin, 3)), 3)
    except HarnessError as error:
        require_sentence(error)


def answers_or_refuses_an_affinity_of_zeros(plugin: Any) -> None:
    """An affinity of zeros: partitions, or an error message."""
    nothing = Affinity(np.zeros((len(UNITS), len(UNITS))), UNITS)
    try:
        _judge_partitions(plugin, plugin(**examples.given(plugin, affinity=nothing)))
    except HarnessError as error:
        require_sentence(error)


def treats_sparse_and_dense_affinities_alike(plugin: Any) -> None:
    """A sparse affinity and the same one as a dense matrix give the same result."""
    if "affinity" not in inputs_of(type(plugin)):
        return
    dense = examples.affinity()
    few = np.where(dense.matrix > 0.5, dense.matrix, 0.0)  # links inside blocks only
    answers = [plugin(**examples.given(plugin, affinity=Affinity(kind(few), UNITS))) for kind in (np.array, csr_array)]
    require(
        contents(answers[0]) == contents(answers[1]),
        "a sparse affinity gives another result than a dense one: use affinity.links or affinity.dense()",
    )


PARTITIONER: tuple[Check, ...] = (
    *usual_checks(examples.given, _judge_partitions),
    finds_groups_where_there_are_some,
    offers_the_same_partitions_for_any_order_of_units,
    answers_or_refuses_three_units,
    answers_or_refuses_an_affinity_of_zeros,
    treats_sparse_and_dense_affinities_alike,
)

# ----------------------------------------------------------------------------------------------------------------------
# Choosers
# ----------------------------------------------------------------------------------------------------------------------


def _judge_quality(_: Any, scores: Any) -> None:
    scores = list(scores)
    n = len(examples.partitions())
    require(len(scores) == n, f"it returns {len(scores)} scores, but there are {n} partitions")
    for score in scores:
        good = score is None or (isinstance(score, (int, float)) and math.isfinite(score))
        require(good, f"a score is {score!r}: return a finite number, or None where it is undefined")


def scores_ordinary_partitions(plugin: Any) -> None:
    """At least one of them has a score."""
    require(
        any(s is not None for s in plugin(**examples.given(plugin))), "all scores are None: no partition can be chosen"
    )


def does_not_depend_on_the_order_of_partitions(plugin: Any) -> None:
    """Partitions in reverse order have the same scores."""
    backwards = examples.partitions()[::-1]
    straight = list(plugin(**examples.given(plugin)))
    backward = list(plugin(**examples.given(plugin, partitions=backwards)))[::-1]
    require(straight == backward, "a partition's score depends on its place in the list")


CHOOSER: tuple[Check, ...] = (
    *usual_checks(examples.given, _judge_quality),
    scores_ordinary_partitions,
    does_not_depend_on_the_order_of_partitions,
    treats_sparse_and_dense_affinities_alike,
)

# ----------------------------------------------------------------------------------------------------------------------
# Selectors
# ----------------------------------------------------------------------------------------------------------------------


def _judge_selection(plugin: Any, selected: Any) -> None:
    require(isinstance(selected, (list, tuple)), f"it returns {type(selected).__name__}, not a list of candidates")
    for candidate in selected:
        require(isinstance(candidate, Candidate), f"it selects {type(candidate).__name__}, not Candidate")
        members = candidate.members
        require(members and len(set(members)) == len(members), "a candidate is empty, or contains a unit twice")
        require(set(members) <= set(range(len(UNITS))), "a candidate has members that are not positions of units")
        low = plugin.min_size or 1
        high = plugin.max_size or len(UNITS)
        require(
            low <= len(members) <= high,
            f"a candidate has {len(members)} units, not {low} to {high}: respect min_size and max_size",
        )
    most = len(UNITS) if plugin.count is None else plugin.count
    require(len(selected) <= most, f"it selects {len(selected)} candidates, more than {most}: respect count")


def answers_without_labels(plugin: Any) -> None:
    """Without labels it may select nothing, but raises no error."""
    _judge_selection(plugin, plugin(**examples.given(plugin, labels=examples.labels(known=False))))


def ignores_units_without_a_group(plugin: Any) -> None:
    """Units with the label -1 are in no group."""
    labels = np.where(np.arange(len(UNITS)) < 16, examples.BLOCKS, -1)
    selected = plugin(**examples.given(plugin, partition=Partition(3, labels)))
    _judge_selection(plugin, selected)
    require(all(max(c.members) < 16 for c in selected), "it selects units with the label -1, which are in no group")


SELECTOR: tuple[Check, ...] = (
    *usual_checks(examples.given, _judge_selection),
    answers_without_labels,
    ignores_units_without_a_group,
    treats_sparse_and_dense_affinities_alike,
)
