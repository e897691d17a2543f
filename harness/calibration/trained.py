"""The level of both tests on groups of a trained model, profile by profile."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from harness.calibration.questions import FUTILITY, passed
from harness.calibration.share import Share
from harness.calibration.worlds import Profile, named, p_of
from harness.cells.cell import Cell
from harness.cells.inputs import Inputs
from harness.cells.progress import Progress
from harness.cells.trial import trial_of
from harness.closure.comparison import TESTS, Test
from harness.closure.outcomes import Outcomes
from harness.closure.pool import LISTED
from harness.closure.trial import Trial
from harness.data.contracts import no_tick
from harness.data.sampling import Group
from harness.pipeline import propose
from harness.util.cache import Memo
from harness.util.seeds import rng_for

TINY = ("subject=tiny", "batch.n=32", "split=none", "null_proposals=0", "group=[L0H0,L0H7,L1H2]")
"""The embedded model on few examples: a level does not depend on their number. The group is only a placeholder."""
SHAPES: tuple[Profile, ...] = ((2,), (3,), (1, 1), (2, 1))
"""Units of a group by site. Every choice of sites is tested."""
LARGER: tuple[Mapping[int, int], ...] = ({1: 2, 2: 2, 3: 2},)
"""Larger groups, as units by site: those of which a fifth passed the former test."""
FEWEST = 20
"""Fewer groups of a profile do not allow p <= .05."""
DRAWN = 100
"""How many random groups of a profile are tested, where not all are."""


def trained_level(
    cell: Cell,
    shapes: Sequence[Profile] = SHAPES,
    larger: Sequence[Mapping[int, int]] = LARGER,
    drawn: int = DRAWN,
) -> Iterator[Share]:
    """How often groups of a trained model have p <= .05 by its first metric, by profile and test.

    The exact test is of every group where its pool lists all. Otherwise, and for the former test, ``drawn`` random
    groups are tested.
    """
    evaluated = _Evaluated.of(cell)
    units = evaluated.outcomes.trial.units
    for counts in [*_profiles(len(units.sites), shapes), *larger]:
        sites = [units.at_sites([units.sites[site]]) for site in counts]
        choices = (itertools.combinations(site, n) for site, n in zip(sites, counts.values(), strict=True))
        groups = [tuple(sorted(itertools.chain(*parts))) for parts in itertools.product(*choices)]
        name = f"{named(tuple(counts.values()))}: {', '.join(units.sites[site] for site in counts)}"
        order = rng_for(0, name).permutation(len(groups))
        for test in TESTS if len(groups) >= FEWEST else ():
            every = test == "exact" and len(groups) <= LISTED
            p = np.array([[evaluated.p(groups[i], test)] for i in (order if every else order[:drawn])])
            if not np.isnan(p).all():
                yield Share.over_worlds("trained", cell.stages["subject"].name, len(sites[0]), name, test, passed(p))


@dataclass(frozen=True)
class _Evaluated:
    """The ablations of a model so far. ``statistics``: of the first metric, by test and group."""

    trials: Mapping[Test, Trial]
    outcomes: Outcomes
    statistics: dict[tuple[Test, Group], float] = field(default_factory=dict)

    @classmethod
    def of(cls, cell: Cell) -> _Evaluated:
        """The model and the examples of a cell that names a group by hand."""
        inputs = Inputs.gather(cell, Memo(), Progress(quiet=True), test=True)
        trial = trial_of(inputs, propose(inputs))
        return cls({test: replace(trial, test=test) for test in TESTS}, Outcomes(trial, no_tick))

    def p(self, candidate: Group, test: Test) -> float:
        """p of a group, as a cell computes it. NaN where the test defines none."""
        comparison = self.trials[test].comparison(candidate)
        groups = [candidate, *comparison.groups]
        self.outcomes.evaluate(part for group in groups for part in comparison.ablated_groups(group))
        for group in groups:
            if (test, group) not in self.statistics:
                found = comparison.statistic(group, self.outcomes.damage(group))
                self.statistics[test, group] = float(found[0])
        own, *others = (self.statistics[test, group] for group in groups)
        return p_of(comparison, own, np.array(others), FUTILITY)


def _profiles(sites: int, shapes: Sequence[Profile]) -> Iterator[Mapping[int, int]]:
    """Units by site, for every shape and every choice of sites."""
    for shape in shapes:
        yield from (
            dict(zip(chosen, shape, strict=True))
            for chosen in itertools.permutations(range(sites), len(shape))
            if len(set(shape)) > 1 or list(chosen) == sorted(chosen)
        )
