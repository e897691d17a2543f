"""Checks of controls: the partition within which groups are matched, and groups that share no unit."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from inspect import signature
from typing import Any

import numpy as np
from jaxtyping import Int

from harness.data.contracts import ControlSets, seeded
from harness.data.grouping import Labels
from harness.data.profile import Profile
from harness.data.stages import inputs_of
from harness.testing import examples
from harness.testing.checks import Check, NotChecked, require, usual_checks
from harness.testing.examples import UNITS

CANDIDATE = (1, 2, 9, 17)


def _matched_by(names: Iterable[str], order: Int[np.ndarray, " units"] | None = None) -> dict[str, Any]:
    """What units are matched by, with the units in another order if one is given."""
    place = np.arange(len(UNITS)) if order is None else order
    units = UNITS.reordered(place)
    classes = examples.labels().classes
    available = {
        "units": units,
        "labels": Labels(tuple(classes[i] for i in place), units),
        "strength": examples.strength()[place],
        "usage": examples.usage()[place],
    }
    return {name: available[name] for name in names}


def _partition(plugin: Any, order: Int[np.ndarray, " units"] | None = None) -> dict[str, Any]:
    return _matched_by(inputs_of(type(plugin)), order)


def _judge_profile(_: Any, profile: Any) -> None:
    require(isinstance(profile, Profile), f"it returns {type(profile).__name__}, not Profile")
    shape = np.shape(profile.cells)
    require(shape == (len(UNITS),), f"its cells have shape {shape}, not one per unit: every unit belongs to a cell")
    used = set(np.asarray(profile.cells).tolist())
    require(
        used == set(range(len(profile.names))),
        f"its units are in cells {sorted(used)}, its names are of {len(profile.names)}: use Profile.of(units, names)",
    )
    require(len(set(profile.names)) == len(profile.names), "two of its cells have the same name")


def does_not_depend_on_the_order_of_units(plugin: Any) -> None:
    """Permuted units have the same cells."""
    profile = plugin(**_partition(plugin))
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(UNITS))
        moved = plugin(**_partition(plugin, order))
        same = moved.names == profile.names and np.array_equal(moved.cells, profile.cells[order])
        require(same, "cells change when units are permuted: use Profile.of(units, names)")


# Groups of the former test, where a plugin draws its own.


def _drawn(plugin: Any, candidate: tuple[int, ...] = CANDIDATE, order: Int[np.ndarray, " units"] | None = None) -> Any:
    """The groups that the plugin draws; the candidate's positions are those in the usual order of units."""
    if plugin.disjoint is None:
        raise NotChecked("it has no `disjoint`: groups of its profile are drawn for test=disjoint")
    names = [name for name in signature(plugin.disjoint).parameters if name not in ("candidate", "n")]
    given = _matched_by(names, order)
    if order is not None:
        candidate = tuple(sorted(np.argsort(order)[list(candidate)].tolist()))
    return plugin.disjoint(candidate=candidate, n=plugin.n or 99, **given)


def _judge_disjoint(plugin: Any, drawn: Any, candidate: tuple[int, ...] = CANDIDATE) -> None:
    require(isinstance(drawn, ControlSets), f"disjoint(...) returns {type(drawn).__name__}, not ControlSets")
    most = plugin.n or 99
    require(len(drawn.groups) <= most, f"it draws {len(drawn.groups)} controls, more than n={most}")
    require(
        len({frozenset(group) for group in drawn.groups}) == len(drawn.groups),
        "a control is drawn twice: return distinct groups",
    )
    for group in drawn.groups:
        require(set(group) <= set(range(len(UNITS))), f"control {group} has members that are not positions of units")
        require(
            len(set(group)) == len(candidate),
            f"control {group} has {len(group)} units, the candidate has {len(candidate)}",
        )
        require(set(group).isdisjoint(candidate), f"control {group} shares a unit with the candidate")
    require(
        all(n > 0 for n in drawn.shortfall.values()),
        f"its shortfall {drawn.shortfall} has entries that are not positive: remove them",
    )


def draws_disjoint_groups(plugin: Any) -> None:
    """With test=disjoint: distinct groups of the candidate's size that share no unit with it, the same ones twice."""
    drawn = _drawn(plugin)
    _judge_disjoint(plugin, drawn)
    require(drawn.groups, "it draws no controls, although many are possible")
    require(_drawn(plugin) == drawn, "two calls of disjoint(...) differ: use rng_for(self.seed, ...)")


def draws_other_groups_with_another_seed(plugin: Any) -> None:
    """With test=disjoint, another seed gives other groups, if there is a seed."""
    if seeded(plugin):
        other = dataclasses.replace(plugin, seed=plugin.seed + 1)
        first, second = (_drawn(controls).groups for controls in (plugin, other))
        require(first != second, "another seed draws the same groups: use rng_for(self.seed, ...)")


def draws_the_same_groups_for_units_in_another_order(plugin: Any) -> None:
    """With test=disjoint, permuted units give the same groups."""
    straight = [sorted(UNITS.names(group)) for group in _drawn(plugin).groups]
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(UNITS))
        units = UNITS.reordered(order)
        require(
            [sorted(units.names(group)) for group in _drawn(plugin, order=order).groups] == straight,
            "controls change when units are permuted: draw from units in the order of `units.canonical`",
        )


def answers_if_few_other_units_are_left(plugin: Any) -> None:
    """With test=disjoint, candidates of whole layers, half the units, more than half: valid controls, or none."""
    for size in (6, 8, len(UNITS) // 2, len(UNITS) // 2 + 1, len(UNITS) - 1):
        candidate = tuple(range(size))
        drawn = _drawn(plugin, candidate)
        if drawn.groups:
            _judge_disjoint(plugin, drawn, candidate)


def draws_none_if_no_other_unit_is_left(plugin: Any) -> None:
    """With test=disjoint, a candidate of all units has no controls, which is not an error."""
    all_units = tuple(range(len(UNITS)))
    require(_drawn(plugin, all_units).groups == (), "it draws controls although no other unit is left")


CONTROLS: tuple[Check, ...] = (
    *usual_checks(_partition, _judge_profile),
    does_not_depend_on_the_order_of_units,
    draws_disjoint_groups,
    draws_other_groups_with_another_seed,
    draws_the_same_groups_for_units_in_another_order,
    answers_if_few_other_units_are_left,
    draws_none_if_no_other_unit_is_left,
)
