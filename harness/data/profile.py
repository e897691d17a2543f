"""Profiles: partitions of all units into cells, fixed before any damage is seen. Groups with as many units in each cell
can be compared with each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from harness.data.grouping import Labels
from harness.data.units import UnitSpace

SMALLEST_BIN = 8
"""A site is divided into bins of at least this many units: a group has few alternatives in a smaller one."""


@dataclass(frozen=True)
class Profile:
    """The cell of every unit.

    ``cells`` [units]: cells are numbered in the canonical order of their first units, so that nothing depends on the
    order of units. ``names``: of the cells.
    """

    cells: Int[np.ndarray, " units"]
    names: tuple[str, ...]

    @classmethod
    def of(cls, units: UnitSpace, names: Sequence[str]) -> Profile:
        """Units with equal names are in one cell. ``names``: one per unit."""
        ordered = tuple(dict.fromkeys(names[unit] for unit in units.canonical))
        place = {name: cell for cell, name in enumerate(ordered)}
        return cls(np.array([place[name] for name in names]), ordered)

    @classmethod
    def by_site(cls, units: UnitSpace) -> Profile:
        """A cell is a site."""
        return cls.of(units, [unit.site for unit in units.units])

    @classmethod
    def by_depth_band(cls, units: UnitSpace, bands: int) -> Profile:
        """A cell is a band of neighbouring depths of one family; its depths are divided into ``bands`` equal parts.

        For sites of one unit, such as MLP layers. A family with fewer depths has as many bands as depths.
        """
        name_of: dict[tuple[str, int], str] = {}
        for family in units.sites_by_family:
            depths = sorted({unit.depth for unit in units.units if unit.family == family})
            for band in np.array_split(depths, min(bands, len(depths))):
                name = f"{family} at depths {band[0]} to {band[-1]}"
                name_of |= {(family, int(depth)): name for depth in band}
        return cls.of(units, [name_of[unit.family, unit.depth] for unit in units.units])

    @classmethod
    def by_bin(
        cls,
        units: UnitSpace,
        values: Float[np.ndarray, " units"],
        bins: int,
        smallest: int = SMALLEST_BIN,
        within: Literal["site", "family"] = "site",
    ) -> Profile:
        """A cell is a bin of the units of one site, or of all sites of a family, by the rank of a value.

        The value is usage, or strength. Each site (or family) has up to ``bins`` bins of about equal size, of at least
        ``smallest`` units. Units with equal values share their mean rank, and so their bin.
        """
        from scipy.stats import rankdata

        place_of = [unit.site if within == "site" else unit.family for unit in units.units]
        bin_of = np.zeros(len(units), dtype=int)
        for place in dict.fromkeys(place_of):
            inside = np.flatnonzero(np.array(place_of) == place)
            parts = max(1, min(bins, len(inside) // smallest))
            bin_of[inside] = (rankdata(values[inside]) - 0.5) * parts / len(inside)
        return cls.of(units, [f"{place}, bin {part}" for place, part in zip(place_of, bin_of, strict=True)])

    @classmethod
    def by_class(cls, labels: Labels) -> Profile:
        """A cell is a class. Units without a label are a class of their own."""
        return cls.of(labels.units, [label or "unknown" for label in labels.classes])

    def counts(self, group: Iterable[int]) -> Mapping[int, int]:
        """How many units a group has in each cell, for the cells in which it has any, in order."""
        return dict(sorted(Counter(self.cells[list(group)].tolist()).items()))

    def pools(self, group: Iterable[int]) -> list[tuple[int, ...]]:
        """All units of each cell in which a group has any."""
        return [tuple(np.flatnonzero(self.cells == cell).tolist()) for cell in self.counts(group)]
