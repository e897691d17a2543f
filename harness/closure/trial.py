"""What is put to the test: a candidate, its parts and its controls, evaluated in rounds until no more are worth it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from harness.closure.anatomy import ActiveRule
from harness.closure.stopping import FIRST, another_round, as_bad, first_round
from harness.closure.verdict import decision_order, enough
from harness.data.batch import Batch
from harness.data.grouping import Labels
from harness.data.recording import Activity
from harness.data.sampling import Group
from harness.data.stages import (
    Controls,
    ControlSets,
    Intervention,
    Metric,
    Subject,
    Tick,
    call_with,
    inputs_of,
    reseeded,
)
from harness.data.units import UnitSpace
from harness.util.errors import HarnessError
from harness.util.seeds import seed_for

Values = Mapping[Group, Float[np.ndarray, "metrics examples"]]
"""Every metric on every example, by the group that was ablated; ``()`` is the baseline model."""
LARGEST_DECOMPOSED = 16  # two conditions per member: the parts of a larger group would cost more than its controls


@dataclass(frozen=True)
class Trial:
    """How groups are put to the test: everything but the group.

    ``reference``: other examples, for interventions that average over those; ``contrast``: examples of another kind,
    on which a group that is specific to this one does no damage; ``activity``: the units' on ``batch``, by which a
    group is active (``rule``) or not; ``futility``: as many controls that do at least as much damage end the test of a
    candidate (:mod:`harness.closure.stopping`); ``labels`` and ``strength`` (a mean output norm per unit): what controls
    may be matched by, measured when asked for.
    """

    subject: Subject
    batch: Batch
    intervention: Intervention
    controls: Controls
    metrics: Sequence[Metric]
    alpha: float = 0.05
    ddof: Literal[0, 1] = 1
    seed: int = 0
    futility: int | None = 10
    reference: Batch | None = None
    contrast: Batch | None = None
    activity: Activity | None = None
    rule: ActiveRule = "any"
    labels: Callable[[], Labels] | None = None
    strength: Callable[[], Float[np.ndarray, " units"]] | None = None

    def evaluate(
        self, batch: Batch, conditions: Sequence[Group], tick: Tick
    ) -> Float[np.ndarray, "metrics _ examples"]:
        """Every metric on every example of a batch, under each condition."""
        return self.subject.evaluate(batch, conditions, self.intervention, self.metrics, tick, self.reference)

    def draw(self, candidate: Group, place: int = 0) -> ControlSets:
        """The controls of a candidate; ``place``: how many of its size come before it in its cell.

        The first of every cell go through one order of groups, the second through another, and so on. They do not share
        one within a cell: the best of ten random groups does more than all of 99 others in 10 of 109 cells, and max-T,
        which holds it against the worst of ten draws each time, needs more groups than these to know how bad that is.
        With the same 99 for all, each candidate's a place later in its list, it has p <= 5 % in 8 % of cells where
        nothing is a circuit (13 % with twenty candidates); with controls of their own, in 5 %.
        """
        controls = self.controls
        if place:
            controls = reseeded(controls, seed_for(controls.seed, f"controls in place {place}"))
        known: dict[str, Any] = {"candidate": candidate, "units": self.subject.units}
        for name, measure in {"labels": self.labels, "strength": self.strength}.items():
            if name in inputs_of(type(controls)):
                if measure is None:
                    raise HarnessError(f"controls {controls.name} ask for {name}, and nobody measured any.")
                known[name] = measure()
        drawn: ControlSets = call_with(controls, **known)
        return drawn


@dataclass(frozen=True)
class Case:
    """A candidate, and the groups it is held against: what is to be evaluated.

    ``stopped_early``: not all its controls; what is inside a group that many random ones equal is not looked for.
    """

    candidate: Group
    layers: Group
    drawn: ControlSets
    parts: tuple[Group, ...]
    without: tuple[Group, ...]
    everything: Group
    others: Group
    stopped_early: bool = False

    @classmethod
    def of(cls, candidate: Group, units: UnitSpace, drawn: ControlSets) -> Case:
        """A candidate and its controls; it is decomposed where that does not cost more than they do."""
        decomposed = 1 < len(candidate) <= LARGEST_DECOMPOSED
        everything = tuple(range(len(units)))
        return cls(
            candidate=candidate,
            layers=units.in_layers({int(units.layers[unit]) for unit in candidate}),
            drawn=drawn,
            parts=tuple((unit,) for unit in candidate) if decomposed else (),
            without=tuple(tuple(u for u in candidate if u != unit) for unit in candidate) if decomposed else (),
            everything=everything,
            others=tuple(unit for unit in everything if unit not in candidate),
        )

    def up_to(self, controls: int) -> Case:
        """The same case with no more controls than this; not taken apart where there would be more."""
        if controls >= len(self.drawn.groups):
            return self
        few = replace(self.drawn, groups=self.drawn.groups[:controls])
        return replace(self, drawn=few, parts=(), without=(), stopped_early=True)

    @property
    def compared(self) -> list[Group]:
        """The candidate, and what it is held against."""
        return [self.candidate, self.layers, *self.drawn.groups]

    @property
    def groups(self) -> list[Group]:
        """Every group of it that is ablated."""
        inside = [] if self.stopped_early else [*self.parts, *self.without, self.everything, self.others]
        return [*self.compared, *inside]


def cases_of(candidates: Iterable[Group], trial: Trial) -> tuple[Case, ...]:
    """The cases of a cell. Candidates of one size have controls of their own each, see :meth:`Trial.draw`."""
    seen: Counter[int] = Counter()
    cases = []
    for candidate in candidates:
        cases.append(Case.of(candidate, trial.subject.units, trial.draw(candidate, seen[len(candidate)])))
        seen[len(candidate)] += 1
    return tuple(cases)


def conditions(cases: Iterable[Case]) -> list[Group]:
    """Every group that is ablated, once; the baseline model first."""
    return list(dict.fromkeys([(), *(group for case in cases for group in case.groups)]))


def evaluated(cases: Sequence[Case], trial: Trial, tick: Tick) -> tuple[Sequence[Case], Values]:
    """The cases as far as their controls count, and all values. What several have in common is evaluated once."""
    values: dict[Group, np.ndarray] = {}

    def evaluate(groups: Iterable[Group]) -> None:
        missing = [group for group in groups if group not in values]
        if missing:
            found = trial.evaluate(trial.batch, missing, tick)
            values.update((group, found[:, i]) for i, group in enumerate(missing))

    if cases and trial.futility is not None:
        cases = _as_far_as_they_count(cases, trial, trial.futility, values, evaluate)
    evaluate(conditions(cases))
    return cases, values


def _as_far_as_they_count(
    cases: Sequence[Case], trial: Trial, futility: int, values: Values, evaluate: Callable[[Iterable[Group]], None]
) -> Sequence[Case]:
    """Evaluate rounds of controls until every candidate is given up, or has no more."""
    drawn = max(len(case.drawn.groups) for case in cases)
    begin, end = FIRST, first_round(drawn, futility)
    if end == drawn:  # nobody is given up sooner
        return cases
    while True:
        evaluate(dict.fromkeys([(), *(group for case in cases for group in case.up_to(end).compared)]))
        courts = [_Court.of(case, end, trial, values) for case in cases]
        for m in range(begin, end + 1):
            if not any(court.more(m, futility) for court in courts):
                return [case.up_to(m) for case in cases]
        if end == drawn:
            return cases
        begin, end = end + 1, min(drawn, end + max(court.more(end, futility) for court in courts))


@dataclass(frozen=True)
class _Court:
    """A candidate's damage beside that of the controls evaluated so far, by the metric asked first.

    ``drawn``: controls there are; ``decidable``: as many can take p to the level; ``delta``: None where no metric has
    room to fall, so that no control says anything.
    """

    drawn: int
    decidable: bool
    delta: float | None = None
    controls: tuple[float, ...] = ()
    factor: float = 1.0
    damage: int = 1

    @classmethod
    def of(cls, case: Case, end: int, trial: Trial, values: Values) -> _Court:
        """What the values say of a case and the first ``end`` of its controls."""
        drawn, baseline = len(case.drawn.groups), values[()]
        decidable = enough(drawn, trial.alpha)
        usable = {metric.name: m for m, metric in enumerate(trial.metrics) if not saturated(metric, baseline[m])}
        if not usable:
            return cls(drawn, decidable)
        m = usable[decision_order(usable)[0]]
        groups = [case.candidate, *case.drawn.groups[:end]]
        delta, *controls = (float((values[group][m] - baseline[m]).mean()) for group in groups)
        return cls(drawn, decidable, delta, tuple(controls), case.drawn.inflation, trial.metrics[m].damage)

    def more(self, m: int, futility: int) -> int:
        """How many controls to evaluate after the first ``m``; 0 where there are none, or none is worth it.

        Who has too few of them for p to reach the level sees them all: nobody is given up for want of controls.
        """
        if m >= self.drawn or not self.decidable:
            return max(0, self.drawn - m)
        k = math.inf if self.delta is None else as_bad(self.delta, self.controls[:m], self.factor, self.damage)
        return 0 if k >= futility else another_round(m, int(k), futility)


def saturated(metric: Metric, baseline: Float[np.ndarray, " examples"]) -> bool:
    """The baseline model is as bad as can be already."""
    return float(baseline.mean()) == metric.worst
