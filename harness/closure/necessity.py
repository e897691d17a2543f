r"""Necessity: what each unit of a group adds to its damage, and the statistic of the exact test.

.. math:: c_u(S) = \max\Bigl\{ d(u),\ \ d(S) - d(S \setminus u),\ \
              \max_{v \in S \setminus u} [d(\{u, v\}) - d(v)] \Bigr\},
          \qquad T(S) = \operatorname{mean}_u\, c_u(S) \text{ without the largest one}

``d`` is the damage of ablating a group: the mean change of a metric, positive for the worse. A link of a chain does all
the damage alone. A part of an additive group does its share alone, and as the last one. A member of a pair that back
each other up does nothing alone, and everything as the last one; in a chain with a backup, only after one other unit.
The largest contribution is left out because a group is no circuit for holding one strong unit. A single unit has
:math:`T = d(u)`.

T is one function of every group, so a group's rank among random groups is uniform if nothing distinguishes it,
whatever the units do and however they interact. The rules below depend on the size of a group and its labels only.

- Up to :data:`PAIRS_UP_TO` units: all three terms. Larger groups: without pairs. A backup that shows only after one
  other unit cannot be seen in them.
- More than :data:`ALL_UP_TO` units: the contributions of :data:`DRAWN` members, drawn by the seed and the labels.

Source: this project.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from harness.data.sampling import Group
from harness.data.units import UnitSpace
from harness.util.seeds import rng_for

PAIRS_UP_TO = 8
ALL_UP_TO = 16
DRAWN = 8
DISPENSABLE = 0.05
"""A unit is dispensable up to this share of the group's damage."""

Damage = Callable[[Group], Float[np.ndarray, " metrics"]]
"""The damage of a group, by metric."""


@dataclass(frozen=True)
class Parts:
    """The parts of a group whose damage its necessity is computed from.

    ``members``: the units whose contribution is computed. ``without``: the group without each of them.
    """

    group: Group
    members: Group

    @classmethod
    def of(cls, group: Group, units: UnitSpace, seed: int) -> Parts:
        """The parts of a group: of all its units, or of some that are drawn from a large one."""
        if len(group) <= ALL_UP_TO:
            return cls(group, group)
        ordered = sorted(group, key=units.rank.__getitem__)
        rng = rng_for(seed, f"members of {' '.join(units.names(ordered))}")
        return cls(group, tuple(sorted(rng.choice(ordered, DRAWN, replace=False).tolist())))

    @property
    def singles(self) -> list[Group]:
        """Each member by itself."""
        return [(unit,) for unit in self.members]

    @property
    def without(self) -> list[Group]:
        """The group without each member."""
        return [tuple(other for other in self.group if other != unit) for unit in self.members]

    @property
    def pairs(self) -> list[Group]:
        """All pairs of members, where the rule uses them."""
        return list(itertools.combinations(self.members, 2)) if len(self.group) <= PAIRS_UP_TO else []

    @property
    def ablated_groups(self) -> list[Group]:
        """Everything that has to be ablated, the group first."""
        if len(self.group) == 1:
            return [self.group]
        return list(dict.fromkeys([self.group, *self.singles, *self.without, *self.pairs]))

    def contributions(self, damage: Damage) -> Float[np.ndarray, "members metrics"]:
        """What each member adds to the group's damage, :math:`c_u`, in units of the metric."""
        alone = np.array([damage(single) for single in self.singles])
        if len(self.group) == 1:
            return alone
        last = damage(self.group) - np.array([damage(rest) for rest in self.without])
        found: Float[np.ndarray, "members metrics"] = np.maximum(alone, last)
        place = {unit: i for i, unit in enumerate(self.members)}
        for u, v in self.pairs:
            both = damage((u, v))
            found[place[u]] = np.maximum(found[place[u]], both - alone[place[v]])
            found[place[v]] = np.maximum(found[place[v]], both - alone[place[u]])
        return found

    def necessity(self, damage: Damage) -> Float[np.ndarray, " metrics"]:
        """The statistic T of the group, by metric."""
        found = self.contributions(damage)
        if len(found) == 1:
            only: Float[np.ndarray, " metrics"] = found[0]
            return only
        mean: Float[np.ndarray, " metrics"] = np.sort(found, axis=0)[:-1].mean(axis=0)
        return mean
