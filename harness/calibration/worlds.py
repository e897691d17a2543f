"""Synthetic worlds, in which the damage of every group is known, and p of groups in many worlds at once."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from harness.closure.comparison import Comparison, Test
from harness.closure.stopping import MIN_CONTROLS
from harness.closure.trial import Trial
from harness.data.sampling import Group
from harness.data.units import UnitSpace
from harness.data.vectors import Vectors

Profile = tuple[int, ...]
"""Units of a group in the first layer, the second, ..."""
STAGES = {"intervention": "intervention", "controls": "controls", "metrics": "metric"}
"""What a trial takes from the stages of a cell."""
Draw = Callable[[np.random.Generator, tuple[int, int, int]], Float[np.ndarray, "worlds layers heads"]]


def normal(rng: np.random.Generator, shape: tuple[int, int, int]) -> Float[np.ndarray, "worlds layers heads"]:
    """Standard normal effects."""
    return rng.standard_normal(shape)


def lognormal(s: float, signs: Sequence[int] = (1,)) -> Draw:
    """Lognormal effects of standard deviation 1, each with one of ``signs``: a few units do most of the damage."""
    mean, square = np.exp(s**2 / 2), np.exp(2 * s**2)
    deviation = float(np.sqrt(square - (np.mean(signs) * mean) ** 2))

    def draw(rng: np.random.Generator, shape: tuple[int, int, int]) -> Float[np.ndarray, "worlds layers heads"]:
        return rng.choice(signs, shape) * rng.lognormal(0, s, shape) / deviation

    return draw


def strong_layer(rng: np.random.Generator, shape: tuple[int, int, int]) -> Float[np.ndarray, "worlds layers heads"]:
    """Normal effects, ten times as large in the first layer."""
    effects = rng.standard_normal(shape)
    effects[:, 0] *= 10
    return effects


def strong_heads(rng: np.random.Generator, shape: tuple[int, int, int]) -> Float[np.ndarray, "worlds layers heads"]:
    """Normal effects, and three standard deviations more for the last unit of each layer."""
    effects = rng.standard_normal(shape)
    effects[:, :, -1] += 3
    return effects


@dataclass(frozen=True, eq=False)
class Worlds:
    """Many worlds. The effects of units add up; on top, every world may have circuits.

    ``effects`` [worlds, units]: the damage by each unit alone. ``chains`` [worlds or 1, units]: the units of chains:
    removing any of them does ``strength`` more damage. ``backup``: removing all of these units does.
    """

    effects: Float[np.ndarray, "worlds units"]
    chains: Sequence[Bool[np.ndarray, "_ units"]] = ()
    backup: Group = ()
    strength: float = 3.0

    def damage(self, groups: Int[np.ndarray, "groups size"]) -> Float[np.ndarray, "worlds groups"]:
        """The damage of each group in each world. Units are positions."""
        damage: Float[np.ndarray, "worlds groups"] = self.effects[:, groups].sum(axis=2)
        for chain in self.chains:
            damage += self.strength * chain[:, groups].any(axis=2)
        if self.backup:
            damage += self.strength * (np.isin(groups, self.backup).sum(axis=1) == len(self.backup))
        return damage

    def p_values(
        self, comparisons: Mapping[Group, Comparison], futility: int | None
    ) -> Float[np.ndarray, "worlds candidates"]:
        """p of each candidate in each world, by the groups that it is compared with. NaN where p is not defined.

        The candidates have one profile. The damage of every group is computed once for all worlds, and so is its
        statistic, by the function of the test.
        """
        found = dict.fromkeys([*comparisons, *(group for each in comparisons.values() for group in each.groups)])
        groups, place = np.array(list(found)), {group: i for i, group in enumerate(found)}
        members = tuple(range(groups.shape[1]))
        a_comparison = next(iter(comparisons.values()))
        # The i-th unit of all groups in all worlds stands for unit i: one call computes all statistics.
        statistics = a_comparison.statistic(members, lambda part: self.damage(groups[:, list(part)]).ravel())
        by_world = statistics.reshape(len(self.effects), len(groups))
        p = np.full((len(by_world), len(comparisons)), np.nan)
        for i, (candidate, comparison) in enumerate(comparisons.items()):
            others = by_world[:, [place[group] for group in comparison.groups]]
            for world, own in enumerate(by_world[:, place[candidate]].tolist()):
                p[world, i] = p_of(comparison, own, others[world], futility)
        return p


def p_of(comparison: Comparison, own: float, others: Float[np.ndarray, " groups"], futility: int | None) -> float:
    """p as a cell computes it: with early stopping. NaN where it is not defined."""
    extreme = comparison.as_extreme(own, others) if len(others) else None
    if extreme is None:
        return np.nan
    n = len(others)
    if futility is not None and extreme >= futility:
        n = bisect_left(range(n), futility, MIN_CONTROLS, key=lambda m: comparison.as_extreme(own, others[:m]) or 0)
    return comparison.p(own, others[:n]) or np.nan


@dataclass(frozen=True)
class Setting:
    """A model without content, and the stages of a cell that decide which groups a candidate is compared with."""

    units: UnitSpace
    stages: Mapping[str, Any]

    @classmethod
    def of(cls, heads: int, layers: int, stages: Mapping[str, Any]) -> Setting:
        """A model of ``layers`` layers of ``heads`` heads."""
        return cls(UnitSpace.heads([heads] * layers), stages)

    def comparisons(
        self, candidates: Sequence[Group], test: Test, proposed: Collection[Group] = ()
    ) -> dict[Group, Comparison]:
        """The groups that the harness compares each candidate with."""
        nothing = Vectors("synthetic", np.zeros((1, 1)), np.zeros(1, dtype=np.int64), "class")
        stages = {name: self.stages[of] for name, of in STAGES.items()}
        trial = Trial(self.units, _never, nothing, **stages, test=test)
        return {candidate: trial.comparison(candidate, proposed) for candidate in candidates}

    def draw(self, profile: Profile, n: int, rng: np.random.Generator) -> list[Group]:
        """``n`` random groups of a profile. The same group can be drawn twice."""
        heads = len(self.units) // len(self.units.sites)

        def one() -> Group:
            parts = [layer * heads + rng.permutation(heads)[:size] for layer, size in enumerate(profile)]
            return tuple(sorted(np.concatenate(parts).tolist()))

        return [one() for _ in range(n)]

    def members(self, groups: Sequence[Group]) -> Bool[np.ndarray, "groups units"]:
        """Which units are in each group."""
        found = np.zeros((len(groups), len(self.units)), dtype=bool)
        for row, group in zip(found, groups, strict=True):
            row[list(group)] = True
        return found

    def effects(self, draw: Draw, worlds: int, rng: np.random.Generator) -> Float[np.ndarray, "worlds units"]:
        """The effects of all units in ``worlds`` worlds."""
        layers = len(self.units.sites)
        return draw(rng, (worlds, layers, len(self.units) // layers)).reshape(worlds, -1)


def named(profile: Profile) -> str:
    """``2+1``; of a single layer ``4 in one``."""
    return "+".join(map(str, profile)) if len(profile) > 1 else f"{profile[0]} in one"


def _never(*_: Any, **__: Any) -> Any:
    raise AssertionError("these groups are not evaluated on a model")
