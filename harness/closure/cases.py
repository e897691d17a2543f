"""Which groups a closure test ablates, and in what rounds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from harness.closure.comparison import Comparison
from harness.closure.necessity import Parts
from harness.closure.outcomes import Outcomes
from harness.closure.statistics import refuse_nan
from harness.closure.stopping import MIN_CONTROLS, first_round, next_round
from harness.closure.trial import Trial
from harness.closure.verdict import enough
from harness.data.contracts import Metric
from harness.data.sampling import Group
from harness.data.units import UnitSpace

SEQUENCE = 3
"""Up to this many candidates of a cell are tested in a fixed sequence. More: their false discovery rate is controlled,
and each is left out of the groups that the others are compared with."""


@dataclass(frozen=True)
class Case:
    """A candidate and all groups that are ablated to test it.

    ``parts``: the candidate's own, of which its necessity consists. ``site_units``: all units of its sites.
    ``complement``: all units but the candidate's. None: these units cannot be ablated together. ``n``: how many of the
    compared groups count; fewer than there are if testing stopped early.
    """

    candidate: Group
    comparison: Comparison
    parts: Parts
    site_units: Group | None
    all_units: Group | None
    complement: Group | None
    n: int

    @classmethod
    def of(cls, candidate: Group, comparison: Comparison, units: UnitSpace, seed: int) -> Case:
        """A candidate with the groups that it is compared with."""
        all_units = tuple(range(len(units)))

        def allowed(group: Group) -> Group | None:
            return group if units.allows(group) else None

        return cls(
            candidate=candidate,
            comparison=comparison,
            parts=Parts.of(candidate, units, seed),
            site_units=allowed(units.at_sites(units.sites_of(candidate))),
            all_units=allowed(all_units),
            complement=allowed(tuple(unit for unit in all_units if unit not in candidate)),
            n=len(comparison.groups),
        )

    @property
    def stopped_early(self) -> bool:
        """Whether further groups exist but do not count."""
        return self.n < len(self.comparison.groups)

    @property
    def compared(self) -> tuple[Group, ...]:
        """The groups that the candidate is compared with, as far as they count."""
        return self.comparison.groups[: self.n]

    def up_to(self, n: int) -> Case:
        """The same case with the first ``n`` compared groups."""
        return replace(self, n=min(n, len(self.comparison.groups)))

    @property
    def ablated_groups(self) -> list[Group]:
        """Every group that is ablated: the candidate, its parts and sites, the compared groups and their parts.

        A candidate that was stopped early is not compared with the rest of the model.
        """
        whole = () if self.stopped_early else (self.all_units, self.complement)
        own = [self.candidate, *self.parts.ablated_groups, *(g for g in (self.site_units, *whole) if g is not None)]
        return [*own, *(part for group in self.compared for part in self.comparison.ablated_groups(group))]


def cases_of(candidates: Sequence[Group], trial: Trial) -> tuple[Case, ...]:
    """The cases of the candidates of a cell."""
    proposed = {tuple(sorted(candidate)) for candidate in candidates} if len(candidates) > SEQUENCE else ()
    units, seed = trial.units, trial.controls.seed
    return tuple(Case.of(group, trial.comparison(group, proposed), units, seed) for group in candidates)


def conditions(cases: Iterable[Case]) -> list[Group]:
    """Every group that is ablated, once. The baseline comes first."""
    return list(dict.fromkeys([(), *(group for case in cases for group in case.ablated_groups)]))


def evaluate_cases(cases: Sequence[Case], outcomes: Outcomes) -> list[Case]:
    """Ablate all groups. The cases come back with the number of compared groups that count.

    Compared groups are evaluated in rounds, until every candidate has enough of them. Each candidate stops by itself.
    """
    futility = outcomes.trial.futility
    if futility is None:
        outcomes.evaluate(conditions(cases))
        return list(cases)
    stopped: dict[int, Case] = {}
    begin = dict.fromkeys(range(len(cases)), 0)
    end = {i: _first(case, futility, outcomes.trial) for i, case in enumerate(cases)}
    while end:
        outcomes.evaluate(conditions(cases[i].up_to(until) for i, until in end.items()))
        for i, until in list(end.items()):
            case = cases[i]
            needed, at = _still_needed(case, begin[i], until, futility, outcomes)
            if needed:
                begin[i], end[i] = until + 1, min(len(case.comparison.groups), until + needed)
            else:
                stopped[i] = case.up_to(at)
                del end[i]
    done = [stopped[i] for i in range(len(cases))]
    outcomes.evaluate(conditions(done))
    return done


def _first(case: Case, futility: int, trial: Trial) -> int:
    """The size of the first round. A candidate that cannot reach alpha is compared with all groups, to describe it."""
    n = len(case.comparison.groups)
    return first_round(n, futility) if enough(n, trial.alpha) else n


def _still_needed(case: Case, begin: int, end: int, futility: int, outcomes: Outcomes) -> tuple[int, int]:
    """How many more groups to evaluate, and how many count if none are needed."""
    n = len(case.comparison.groups)
    if not enough(n, outcomes.trial.alpha):
        return 0, n
    m = first_unsaturated(case.candidate, outcomes)
    if m is None:
        return 0, end
    statistics = statistics_of(case.up_to(end), outcomes)[:, m]
    for count in range(max(begin, MIN_CONTROLS), end + 1):
        extreme = case.comparison.as_extreme(statistics[0], statistics[1 : 1 + count])
        if extreme is None or extreme >= futility:
            return 0, count
    return (0, n) if end == n else (next_round(end, int(extreme or 0), futility), end)


def statistics_of(case: Case, outcomes: Outcomes) -> Float[np.ndarray, "groups metrics"]:
    """The statistic of the candidate, then of each compared group that counts, by metric.

    Every group is judged on its own scope: the statistic is one function of a group.
    """
    groups = [case.candidate, *case.compared]
    statistics = np.array([outcomes.statistic(group, case.comparison) for group in groups])
    refuse_nan(statistics)
    return statistics


def first_unsaturated(candidate: Group, outcomes: Outcomes) -> int | None:
    """The place of the metric that decides first. None: every metric that decides is at its worst value."""
    trial, baseline = outcomes.trial, outcomes.values[()]
    places = (m for m in range(len(trial.metrics)) if trial.decides(m))
    judged = trial.in_scope(candidate, baseline)
    return next((m for m in places if not saturated(trial.metrics[m], judged[m])), None)


def saturated(metric: Metric, baseline: Float[np.ndarray, " examples"]) -> bool:
    """Whether the baseline mean is already the metric's worst value, or there is no example."""
    return not len(baseline) or float(baseline.mean()) == metric.worst
