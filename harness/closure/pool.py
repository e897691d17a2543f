"""Pools: the groups of one profile, in a random order that follows from the seed and the profile alone."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from harness.data.profile import Profile
from harness.data.sampling import Group
from harness.data.units import UnitSpace
from harness.util.seeds import rng_for

LISTED = 2000
"""Up to this many groups, all are in the pool. Of more, some are drawn at random."""
DRAWN = 199
"""How many are drawn by default: p is then at least 1 / 200."""
REFUSED = 100
"""Drawing ends after this many refused draws for each group: too few groups can be ablated together."""


@dataclass(frozen=True)
class Pool:
    """Distinct groups with as many units in each cell of a profile.

    ``groups``: in random order; uniform over all that can be ablated together. ``possible``: how many groups have this
    profile. ``profile``: how many units a group has in each cell, by name. All candidates of a profile share the pool,
    whichever method proposed them.
    """

    groups: tuple[Group, ...]
    possible: int
    profile: Mapping[str, int]

    @classmethod
    def of(cls, profile: Profile, counts: Mapping[int, int], units: UnitSpace, n: int, seed: int) -> Pool:
        """The groups with these ``counts`` by cell: all of them, or ``n`` drawn ones of more than ``LISTED``."""
        cells = [units.canonical[profile.cells[units.canonical] == cell] for cell in counts]
        sizes = list(counts.values())
        possible = math.prod(math.comb(len(cell), size) for cell, size in zip(cells, sizes, strict=True))
        named = {profile.names[cell]: size for cell, size in counts.items()}
        rng = rng_for(seed, "pool: " + "; ".join(f"{size} of {name}" for name, size in named.items()))
        listed = possible <= LISTED
        groups = _listed(cells, sizes, units, rng) if listed else _drawn(cells, sizes, units, n, rng)
        return cls(tuple(groups), possible, named)

    def without(self, excluded: Collection[Group], n: int | None) -> tuple[Group, ...]:
        """The groups that some candidates are compared with: the first ``n`` that are not among them.

        ``n`` None: all where all are listed, otherwise ``DRAWN``.
        """
        most = n if n is not None or self.possible <= LISTED else DRAWN
        return tuple(itertools.islice((group for group in self.groups if group not in excluded), most))


def _listed(
    cells: Sequence[Int[np.ndarray, " _"]], sizes: Sequence[int], units: UnitSpace, rng: np.random.Generator
) -> list[Group]:
    within = [itertools.combinations(cell.tolist(), size) for cell, size in zip(cells, sizes, strict=True)]
    choices = itertools.product(*within)
    every = [tuple(sorted(itertools.chain(*parts))) for parts in choices]
    return [every[place] for place in rng.permutation(len(every)) if units.allows(every[place])]


def _drawn(
    cells: Sequence[Int[np.ndarray, " _"]], sizes: Sequence[int], units: UnitSpace, n: int, rng: np.random.Generator
) -> list[Group]:
    found: dict[Group, None] = {}
    for _ in range(REFUSED * n):
        parts = [rng.choice(cell, size, replace=False) for cell, size in zip(cells, sizes, strict=True)]
        group = tuple(sorted(np.concatenate(parts).tolist()))
        if units.allows(group):
            found[group] = None
        if len(found) == n:
            break
    return list(found)
