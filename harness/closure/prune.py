"""Pruning: units that a group does not need are dropped, one after the other."""

from __future__ import annotations

from harness.closure.cases import first_unsaturated
from harness.closure.necessity import DISPENSABLE, Parts
from harness.closure.outcomes import Outcomes
from harness.data.sampling import Group


def needed_units(group: Group, outcomes: Outcomes) -> Group:
    """The group without its dispensable units.

    The unit with the smallest necessity :math:`c_u` is dropped while it is at most 5 % of the group's damage to the
    metric that decides first. Every step measures the smaller group again: a unit that another one made dispensable can
    be needed once that one is gone. A group that does no damage is returned as it is.
    """
    while len(group) > 1:
        parts = Parts.of(group, outcomes.trial.units, outcomes.trial.controls.seed)
        outcomes.evaluate(parts.ablated_groups)
        m = first_unsaturated(group, outcomes)
        if m is None:
            return group
        damage = outcomes.damage(group)
        necessity, whole = parts.contributions(damage)[:, m], damage(group)[m]
        if whole <= 0 or necessity.min() > DISPENSABLE * whole:
            return group
        weakest = parts.members[int(necessity.argmin())]
        group = tuple(unit for unit in group if unit != weakest)
    return group
