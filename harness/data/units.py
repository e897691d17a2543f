"""Units: the components of a subject that can be recorded and ablated, in a fixed order."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cached_property
from itertools import groupby
from typing import SupportsIndex

import numpy as np
from jaxtyping import Int

from harness.util.digest import digest
from harness.util.errors import HarnessError
from harness.util.text import in_order, is_one_line

_HEAD = re.compile(r"L([0-9]{1,200})H([0-9]+)")
LONGEST = 200
"""Characters of the name of a unit or a site."""
DEEPEST = 10**6
"""No unit is at this depth."""


@dataclass(frozen=True)
class Unit:
    """One component.

    ``label``: its name, which no two units share; nothing is read from it. ``site``: the place in the model whose units
    stand side by side and serve as controls for each other (an attention module, a weight matrix). ``depth``: how early
    the site comes in the model; several sites may have one depth. ``family``: the kind of component.
    """

    label: str
    site: str
    depth: int
    family: str = "head"

    @classmethod
    def head(cls, layer: int, head: int) -> Unit:
        """An attention head: ``L3H5``, of the site ``L3.attn``."""
        return cls(f"L{layer}H{head}", f"L{layer}.attn", layer)


@dataclass(frozen=True)
class Run:
    """Consecutive units of one site: how a unit space is written to a file, beside the labels."""

    site: str
    depth: int
    family: str
    units: int


@dataclass(frozen=True)
class UnitSpace:
    """The ordered units of a subject. Everything that has one entry per unit follows this order.

    ``at_most``: by site, how many of its units can be ablated together, where that is fewer than all (a router keeps
    one source).

    Errors: no units; a name that cannot be shown in a line; a depth below 0; a label that occurs twice; a site with two
    depths or families; a limit for an unknown site.
    """

    units: tuple[Unit, ...]
    at_most: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.units:
            raise HarnessError("a unit space needs at least one unit.", "Example: UnitSpace.heads([12, 12])")
        for name in (*self.labels, *{unit.site for unit in self.units}):
            if name != name.strip() or len(name) > LONGEST or not is_one_line(name):
                raise HarnessError(
                    f"the name {name[:LONGEST]!r} of a unit or site cannot be shown in a line.",
                    f"Use up to {LONGEST} characters, without line breaks, and without spaces at its ends.",
                )
        if outside := [unit for unit in self.units if not 0 <= unit.depth < DEEPEST]:
            raise HarnessError(
                f"unit '{outside[0].label}' has the depth {outside[0].depth}.", f"Depths run from 0 to {DEEPEST - 1}."
            )
        twice = [label for label, count in Counter(self.labels).items() if count > 1]
        if twice:
            raise HarnessError(f"a unit space names unit '{twice[0]}' twice.", "Give every unit its own label.")
        depths = {(unit.site, (unit.depth, unit.family)) for unit in self.units}
        if len(depths) > len(self.sites):
            site = Counter(site for site, _ in depths).most_common(1)[0][0]
            raise HarnessError(f"units of site '{site}' differ in depth or family.", "A site has one of each.")
        if missing := sorted(set(self.at_most) - set(self.sites)):
            raise HarnessError(f"at_most names site '{missing[0]}', which has no units.", "Name sites of the units.")

    @classmethod
    def heads(cls, heads_per_layer: Iterable[int]) -> UnitSpace:
        """Attention heads, layer by layer: position = heads in earlier layers + head."""
        return cls(tuple(Unit.head(layer, head) for layer, n in enumerate(heads_per_layer) for head in range(n)))

    @classmethod
    def from_labels(cls, labels: Iterable[str]) -> UnitSpace:
        """Units of files that give labels only: heads if all labels have their form, else the units of one site.

        This form is read here only. Errors: a label that occurs twice.
        """
        labels = [label.strip() for label in labels]
        heads = [_HEAD.fullmatch(label) for label in labels]
        if all(heads):
            return cls(tuple(replace(Unit.head(int(head[1]), 0), label=head[0]) for head in heads if head))
        return cls(tuple(Unit(label, "units", 0, "unit") for label in labels))

    @classmethod
    def from_runs(cls, labels: Sequence[str], runs: Iterable[Run]) -> UnitSpace:
        """The units with these labels, by the :attr:`runs` of their sites."""
        remaining = iter(labels)
        units = tuple(Unit(next(remaining), run.site, run.depth, run.family) for run in runs for _ in range(run.units))
        return cls(units)

    def __len__(self) -> int:
        return len(self.units)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The label of every unit, in order."""
        return tuple(unit.label for unit in self.units)

    @cached_property
    def runs(self) -> tuple[Run, ...]:
        """Consecutive units of one site, with their number."""
        places = ((unit.site, unit.depth, unit.family) for unit in self.units)
        return tuple(Run(*place, len(list(run))) for place, run in groupby(places))

    @cached_property
    def digest(self) -> str:
        """Digest of labels, sites and limits, in order."""
        runs = [[run.site, run.depth, run.family, run.units] for run in self.runs]
        return digest(self.labels, runs, sorted(self.at_most.items()))

    @cached_property
    def sites(self) -> tuple[str, ...]:
        """The names of the sites, from early to late."""
        return tuple(sorted({unit.site: unit.depth for unit in self.units}, key=self._site_order))

    @cached_property
    def site_of(self) -> Int[np.ndarray, " units"]:
        """The index in ``sites`` of every unit's site, in order."""
        place = {site: i for i, site in enumerate(self.sites)}
        return np.array([place[unit.site] for unit in self.units])

    @cached_property
    def depth_of(self) -> Int[np.ndarray, " units"]:
        """The depth of every unit, in order."""
        return np.array([unit.depth for unit in self.units])

    @cached_property
    def sites_by_family(self) -> dict[str, tuple[int, ...]]:
        """The indices in ``sites`` of every family's sites, from early to late."""
        family_of = {unit.site: unit.family for unit in self.units}
        families: dict[str, list[int]] = {}
        for index, site in enumerate(self.sites):
            families.setdefault(family_of[site], []).append(index)
        return {family: tuple(sites) for family, sites in families.items()}

    @cached_property
    def canonical(self) -> Int[np.ndarray, " units"]:
        """Positions sorted by depth, site and label: an order that does not depend on the order of the units.

        Numbers in names are compared as numbers: ``L2H10`` follows ``L2H9``.
        """
        names = [in_order(label) for label in self.labels]
        return np.array(sorted(range(len(self)), key=lambda unit: (self.site_of[unit], names[unit])))

    @cached_property
    def rank(self) -> Int[np.ndarray, " units"]:
        """The place of every unit in the canonical order."""
        return np.argsort(self.canonical)

    @cached_property
    def _position(self) -> dict[str, int]:
        return {label: position for position, label in enumerate(self.labels)}

    @cached_property
    def _depths(self) -> dict[str, int]:
        return {unit.site: unit.depth for unit in self.units}

    def _site_order(self, site: str) -> tuple[int, list[tuple[int, str]]]:
        return self._depths[site], in_order(site)

    def find(self, labels: Iterable[str]) -> tuple[int, ...]:
        """Positions of the named units, ascending.

        Errors: a label that is named twice, or not a unit of this subject.
        """
        names = [label.strip() for label in labels]
        for name in names:
            if name not in self._position:
                close = get_close_matches(name, self.labels, 1) if len(self) <= 4096 else []
                raise HarnessError(
                    f"unit '{name[:LONGEST]}' is not a unit of this subject."
                    + (f" Did you mean: {close[0]}?" if close else ""),
                    f"It has {len(self)} units: {self.labels[0]} .. {self.labels[-1]}",
                )
        if len(set(names)) != len(names):
            raise HarnessError(f"a unit is named twice in '{','.join(names)}'.", "Name each unit once.")
        return tuple(sorted(self._position[name] for name in names))

    def names(self, positions: Iterable[SupportsIndex]) -> list[str]:
        """Labels of the units at these positions."""
        return [self.labels[position] for position in positions]

    def at_sites(self, sites: Iterable[str]) -> tuple[int, ...]:
        """Positions of all units of these sites."""
        chosen = set(sites)
        return tuple(position for position, unit in enumerate(self.units) if unit.site in chosen)

    def sites_of(self, positions: Iterable[SupportsIndex]) -> tuple[str, ...]:
        """The names of the sites of these units, from early to late."""
        return tuple(self.sites[place] for place in sorted({int(self.site_of[position]) for position in positions}))

    def allows(self, group: Iterable[SupportsIndex]) -> bool:
        """Whether the units of a group can be ablated together."""
        if not self.at_most:
            return True
        counts = Counter(self.units[position].site for position in group)
        return all(counts[site] <= limit for site, limit in self.at_most.items())

    def reordered(self, order: Iterable[SupportsIndex]) -> UnitSpace:
        """The units at these positions, in this order."""
        units = tuple(self.units[position] for position in order)
        kept = {unit.site for unit in units}
        return UnitSpace(units, {site: limit for site, limit in self.at_most.items() if site in kept})


def named(labels: Sequence[str], most: int = 16) -> str:
    """The labels in a line; of a larger group, the first ones and how many more there are."""
    rest = len(labels) - most
    return " ".join(labels) if rest <= 0 else f"{' '.join(labels[:most])} and {rest} more"
