"""The conditions of a closure test before anything is proposed: random groups take the place of the candidates."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

from harness.cells.cell import Cell
from harness.closure.cases import Case, conditions
from harness.closure.comparison import Comparison, Disjoint, Exact, Test
from harness.closure.pool import DRAWN, Pool
from harness.data.profile import Profile
from harness.data.sampling import Group, from_pools
from harness.data.units import Run, UnitSpace
from harness.engine.shapes import Shapes
from harness.util.seeds import rng_for

SIZE = 4  # units of a candidate, where the selector allows it


@dataclass(frozen=True)
class Design:
    """What decides the conditions of a cell: its ``count`` candidates, and the groups that each is compared with.

    A group ``named`` by hand is the candidate; otherwise candidates of one ``size`` are drawn at random. ``runs``: the
    sites of the units, in order. ``n``: of the controls. Groups are matched by site; where a site is a single unit (an
    MLP), by size only.
    """

    runs: tuple[Run, ...]
    named: Group
    size: int
    count: int
    n: int | None
    test: Test

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
        count = 1 if named else selector.count or max(1, units // size)
        return cls(runs, named, size, count, cell.stages["controls"].n, cell.settings.test)

    @property
    def units(self) -> int:
        """The number of units."""
        return sum(run.units for run in self.runs)

    @cached_property
    def cases(self) -> tuple[Case, ...]:
        """The candidates with all groups that they are compared with."""
        return _cases(self)

    @property
    def compared(self) -> int:
        """How many groups a candidate is compared with, at most."""
        return max(len(case.comparison.groups) for case in self.cases)

    def random_groups(self, n: int, size: int | None = None) -> list[Group]:
        """Random groups; ``size`` None: of a candidate's size."""
        rng = rng_for(0, "random groups of a plan")
        size = size or len(self.named) or self.size
        return [tuple(sorted(rng.permutation(self.units)[:size].tolist())) for _ in range(n)]

    def conditions(self, compared: int) -> list[Group]:
        """The conditions of a cell that evaluates this many compared groups per candidate."""
        return conditions(case.up_to(compared) for case in self.cases)


@lru_cache
def _cases(design: Design) -> tuple[Case, ...]:
    """Candidates of a plan, drawn at random, each with the groups that it is compared with."""
    rng = rng_for(0, "groups of a plan")
    units = UnitSpace.from_runs([str(unit) for unit in range(design.units)], design.runs)
    alone = any(run.units == 1 for run in design.runs)
    profile = Profile.of(units, ["all"] * len(units)) if alone else Profile.by_site(units)
    cases = []
    for _ in range(design.count):
        candidate = design.named or tuple(sorted(rng.permutation(len(units))[: design.size].tolist()))
        cases.append(Case.of(candidate, _comparison(candidate, profile, units, design), units, seed=0))
    return tuple(cases)


def _comparison(candidate: Group, profile: Profile, units: UnitSpace, design: Design) -> Comparison:
    n = design.n or DRAWN
    if design.test == "disjoint":
        drawn = from_pools(candidate, profile.pools(candidate), units, n, seed=0)
        return Disjoint(drawn.groups, len(drawn.groups), {}, {}, 1.0)
    pool = Pool.of(profile, profile.counts(candidate), units, n + 1, seed=0)
    return Exact(pool.without({candidate}, design.n), pool.possible, pool.profile, units, 0)
