"""The groups that a candidate is compared with, and the statistic that compares them: the exact test, and the former
test against disjoint groups."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol, get_args, runtime_checkable

import numpy as np
from jaxtyping import Float

from harness.closure.necessity import Damage, Parts
from harness.closure.statistics import inflated
from harness.data.sampling import Group
from harness.data.units import UnitSpace

Test = Literal["exact", "disjoint"]
Statistic = Literal["necessity", "share"]
TESTS, STATISTICS = get_args(Test), get_args(Statistic)
ROUNDING = 1e-6
"""Statistics that differ by less than this share of the largest one count as equal. Models compute in single precision,
and sums of other batch sizes round differently."""


@runtime_checkable
class Comparison(Protocol):
    """``groups``: those that a candidate is compared with, in random order. ``possible``: how many exist.
    ``shortfall``, ``inflation``: see :class:`harness.data.contracts.ControlSets`.
    """

    groups: tuple[Group, ...]
    possible: int
    profile: Mapping[str, int]
    shortfall: Mapping[str, int]
    inflation: float

    @abstractmethod
    def ablated_groups(self, group: Group) -> list[Group]:
        """Everything that is ablated for a group's statistic."""

    @abstractmethod
    def statistic(self, group: Group, damage: Damage) -> Float[np.ndarray, " metrics"]:
        """The statistic of a group, by metric; larger for more damage."""

    @abstractmethod
    def as_extreme(self, own: float, others: Float[np.ndarray, " groups"]) -> int | None:
        """How many groups have at least the candidate's statistic. None: it is not defined."""

    def p(self, own: float, others: Float[np.ndarray, " groups"]) -> float | None:
        r""":math:`(1 + \#\{T_i \ge T\}) / (1 + n)` over the ``n`` groups that were evaluated. None without any.

        Source: Phipson & Smyth 2010.
        """
        extreme = self.as_extreme(own, others) if len(others) else None
        return None if extreme is None else (1 + extreme) / (1 + len(others))


def as_extreme(own: float, others: Float[np.ndarray, " groups"]) -> int:
    """How many of the ``others`` have at least this statistic. Minus infinity: the statistic is not defined."""
    if not math.isfinite(own):
        return len(others)
    largest = max(abs(own), float(np.abs(others[np.isfinite(others)]).max(initial=0.0)))
    return int((others >= own - ROUNDING * largest).sum())


def p_among(own: float, others: Float[np.ndarray, " groups"]) -> float:
    r""":math:`(1 + \#\{T_i \ge T\}) / (1 + n)` of a number among those of ``n`` groups."""
    return (1 + as_extreme(own, others)) / (1 + len(others))


@dataclass(frozen=True)
class Exact(Comparison):
    """The exact test: T of the candidate among T of the groups of its profile.

    They may share units with the candidate; only the candidate itself is left out. ``statistic_of``: T itself
    (``necessity``), or T as a share of the group's own damage (``share``): 1 for a chain, 1/g for g equal independent
    units, near 0 for one strong unit with passengers.
    """

    groups: tuple[Group, ...]
    possible: int
    profile: Mapping[str, int]
    units: UnitSpace
    seed: int
    statistic_of: Statistic = "necessity"
    shortfall: Mapping[str, int] = field(default_factory=dict)
    inflation: float = 1.0

    def ablated_groups(self, group: Group) -> list[Group]:
        return Parts.of(group, self.units, self.seed).ablated_groups

    def statistic(self, group: Group, damage: Damage) -> Float[np.ndarray, " metrics"]:
        necessity = Parts.of(group, self.units, self.seed).necessity(damage)
        if self.statistic_of == "necessity":
            return necessity
        whole = damage(group)
        share: Float[np.ndarray, " metrics"] = np.divide(
            necessity, whole, out=np.full_like(whole, -math.inf), where=whole > 0
        )
        return share

    def as_extreme(self, own: float, others: Float[np.ndarray, " groups"]) -> int:
        return as_extreme(own, others)


@dataclass(frozen=True)
class Disjoint(Comparison):
    """The former test: the candidate's damage among that of groups that share no unit with it.

    The spread of these is inflated about their mean, because they come from a pool without the candidate's units. This
    keeps the level only where units do damage independently, normally distributed and with equal spread.
    """

    groups: tuple[Group, ...]
    possible: int
    profile: Mapping[str, int]
    shortfall: Mapping[str, int]
    inflation: float

    def ablated_groups(self, group: Group) -> list[Group]:
        return [group]

    def statistic(self, group: Group, damage: Damage) -> Float[np.ndarray, " metrics"]:
        return damage(group)

    def as_extreme(self, own: float, others: Float[np.ndarray, " groups"]) -> int | None:
        if not math.isfinite(self.inflation):
            return None
        return int((np.array(inflated(others.tolist(), self.inflation)) >= own).sum())
