"""The conditions of a closure test before anything is proposed: random groups take the place of the candidates."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from harness.cells.cell import Cell
from harness.closure.trial import Case, conditions
from harness.data.contracts import ControlSets
from harness.data.sampling import Group
from harness.data.units import Run, UnitSpace
from harness.engine.shapes import Shapes
from harness.util.seeds import rng_for

SIZE = 8  # units of a candidate, where the selector allows it: about the middle of the default 2 to 12


@dataclass(frozen=True)
class Design:
    """What decides the conditions of a cell: its ``n`` candidates, and how many controls are ``drawn`` for each.

    A group ``named`` by hand is the candidate; otherwise candidates of one ``size`` are drawn at random. ``runs``: the
    sites of the units, in order.
    """

    runs: tuple[Run, ...]
    named: Group
    size: int
    n: int
    drawn: int

    @classmethod
    def of(cls, cell: Cell, shapes: Shapes) -> Design:
        """The design of a cell."""
        selector, subject = cell.stages["selector"], cell.stages["subject"]
        heads = UnitSpace.heads([shapes.heads] * shapes.layers)
        others = subject.runs(shapes)
        runs = heads.runs if others is None else others
        units = sum(run.units for run in runs)
        group = cell.settings.group
        # Labels of other units are known to the loaded model only. As many units are as much work.
        named = heads.find(group) if others is None else tuple(range(len(group)))
        smallest, largest = selector.min_size or 1, selector.max_size or units
        size = min(max(SIZE, smallest), largest, units)
        n = 1 if named else selector.count or max(1, units // size)
        return cls(runs, named, size, n, cell.stages["controls"].n or 99)

    @property
    def units(self) -> int:
        """The number of units."""
        return sum(run.units for run in self.runs)

    def conditions(self, controls: int) -> list[Group]:
        """The conditions of a cell that evaluates this many controls per candidate."""
        drawn = max(controls, self.drawn)
        cases = _cases(self.runs, self.named, self.size, self.n, drawn)
        return conditions(case.up_to(controls) for case in cases)


@lru_cache
def _cases(runs: tuple[Run, ...], named: Group, size: int, n: int, controls: int) -> tuple[Case, ...]:
    """Candidates, each with controls that have as many units in each site.

    Where a site is a single unit (an MLP), controls have units of any site.
    """
    rng = rng_for(0, "groups of a plan")
    sizes = [run.units for run in runs]
    first = np.cumsum([0, *sizes])
    units = UnitSpace.from_runs([str(unit) for unit in range(first[-1])], runs)
    cases = []
    for _ in range(n):
        candidate = named or tuple(sorted(rng.permutation(int(first[-1]))[:size].tolist()))
        site_of = np.repeat(np.arange(len(sizes)), sizes)[list(candidate)].tolist()
        earlier = [site_of[:i].count(site) for i, site in enumerate(site_of)]  # units before it in its site
        anywhere = any(sizes[site] == 1 for site in site_of)
        groups = []
        for _ in range(controls):
            if anywhere:
                chosen = rng.permutation(int(first[-1]))[: len(candidate)].tolist()
            else:
                order = {site: rng.permutation(units_there) for site, units_there in enumerate(sizes)}
                chosen = [int(first[site] + order[site][i]) for site, i in zip(site_of, earlier, strict=True)]
            groups.append(tuple(sorted(chosen)))
        cases.append(Case.of(candidate, units, ControlSets(tuple(groups))))
    return tuple(cases)
