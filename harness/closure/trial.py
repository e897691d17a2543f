"""Which groups a closure test ablates, and in what rounds its control groups are evaluated."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float

from harness.closure.anatomy import ActiveRule, active
from harness.closure.stopping import MIN_CONTROLS, as_damaging, first_round, next_round
from harness.closure.verdict import enough
from harness.data.batch import Batch
from harness.data.contracts import Controls, ControlSets, Intervention, Metric, Tick, reseeded
from harness.data.grouping import Labels
from harness.data.recording import Activity
from harness.data.sampling import Group
from harness.data.stages import call_with, inputs_of
from harness.data.units import UnitSpace
from harness.util.errors import HarnessError
from harness.util.seeds import seed_for

Values = Mapping[Group, Float[np.ndarray, "metrics examples"]]
"""Every metric on every example, by the group that was ablated. ``()`` is the baseline."""
LARGEST_DECOMPOSED = 16
"""Largest candidate that is decomposed: each unit costs two conditions."""


@runtime_checkable
class Evaluate(Protocol):
    """Evaluates groups of units: :meth:`harness.data.contracts.Subject.evaluate`, or a function that caches it."""

    def __call__(
        self,
        batch: Batch,
        conditions: Sequence[Group],
        intervention: Intervention,
        metrics: Sequence[Metric],
        tick: Tick,
        reference: Batch | None = None,
    ) -> Float[np.ndarray, "metrics conditions examples"]:
        """Every metric on every example, with each condition's units ablated."""


@dataclass(frozen=True)
class Trial:
    """The settings of a closure test: everything but the candidates.

    ``reference``: other examples, for interventions that take a mean over them. ``contrast``: a batch of another task,
    on which a specific group does no damage. ``activity``: of the units on ``batch``; ``rule`` says when a group counts
    as active. ``scope``: the examples that a group is judged on: ``all``, or those on which this group is ``active``.
    ``deciding``: which metrics decide: the first listed and those that declare it (``declared``), or ``all``.
    ``stratum``: the one that candidates were proposed on, if any; ``in_stratum``: ``batch`` are its examples.
    ``futility``: testing of a candidate stops early when this many controls do at least as much damage
    (:mod:`harness.closure.stopping`). ``labels``, ``strength`` (mean output norm [units]), ``usage`` (share of examples
    on which each unit is active [units]): given where the controls ask for them.
    """

    units: UnitSpace
    evaluate: Evaluate
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
    scope: Literal["all", "active"] = "all"
    deciding: Literal["declared", "all"] = "declared"
    stratum: str = ""
    in_stratum: bool = False
    labels: Labels | None = None
    strength: Float[np.ndarray, " units"] | None = None
    usage: Float[np.ndarray, " units"] | None = None

    def values(self, batch: Batch, conditions: Sequence[Group], tick: Tick) -> Float[np.ndarray, "metrics _ examples"]:
        """Every metric on every example of a batch, under each condition."""
        return self.evaluate(batch, conditions, self.intervention, self.metrics, tick, self.reference)

    def active(self, group: Group) -> Bool[np.ndarray, " examples"] | None:
        """On which examples a group is active. None where activity was not measured per example."""
        if self.activity is None or len(self.activity.values) != len(self.batch):
            return None
        return active(self.activity.values[:, list(group)], self.rule)

    def in_scope(self, group: Group, values: Float[np.ndarray, " examples"]) -> Float[np.ndarray, " judged"]:
        """The values on the examples that a group is judged on.

        Errors: ``scope=active``, where activity was not measured per example.
        """
        if self.scope == "all":
            return values
        examples = self.active(group)
        if examples is None:
            raise HarnessError(
                "scope=active: this cell has no activity of its units on single examples.",
                "Choose a signal whose observations are examples (signal=max_attention), or scope=all.",
            )
        judged: Float[np.ndarray, " judged"] = values[examples]
        return judged

    def mean_change(self, group: Group, change: Float[np.ndarray, " examples"]) -> float:
        """The mean change on the examples that a group is judged on; 0 where there are none."""
        judged = self.in_scope(group, change) if group else change
        return float(judged.mean()) if len(judged) else 0.0

    def decides(self, m: int) -> bool:
        """Whether the metric in this place takes part in the verdict."""
        return m == 0 or self.deciding == "all" or self.metrics[m].decides

    def draw(self, candidate: Group, place: int = 0) -> ControlSets:
        """Draw the controls of a candidate. ``place``: how many candidates of its size precede it in its cell.

        Each place has its own order of control groups; the first candidate of every cell uses the same one. Candidates
        of one cell must not share their controls. The best of ten random groups does more damage than all of 99 others
        in 10 of 109 cells, and max-T needs many independent sets of ten draws to account for that. With the same 99
        controls for all, shifted by one place per candidate, a candidate has p <= 5 % in 8 % of cells without a circuit
        (13 % with twenty candidates). With separate controls it is 5 %.

        Errors: the controls ask for labels, strength or usage, and the trial has none.
        """
        controls = self.controls
        if place:
            controls = reseeded(controls, seed_for(controls.seed, f"controls in place {place}"))
        available: dict[str, Any] = {
            "candidate": candidate,
            "units": self.units,
            "labels": self.labels,
            "strength": self.strength,
            "usage": self.usage,
        }
        for name in inputs_of(type(controls)):
            if available[name] is None:
                raise HarnessError(
                    f"controls {controls.name} need {name} of the units, and this trial has none.",
                    f"Create it with Trial({name}=...), or use controls=layer_matched.",
                )
        drawn: ControlSets = call_with(controls, **available)
        return drawn


@dataclass(frozen=True)
class Case:
    """A candidate and all groups that are ablated to test it.

    ``site_units``: all units of the candidate's sites. ``singles``: each of its units by itself. ``leave_one_out``:
    the candidate without each of its units. ``complement``: all units but the candidate's. ``stopped_early``: further
    controls exist but are not evaluated; the candidate is then not decomposed. None: these units cannot be ablated
    together.
    """

    candidate: Group
    site_units: Group | None
    controls: ControlSets
    singles: tuple[Group, ...]
    leave_one_out: tuple[Group, ...]
    all_units: Group | None
    complement: Group | None
    stopped_early: bool = False

    @classmethod
    def of(cls, candidate: Group, units: UnitSpace, controls: ControlSets) -> Case:
        """A candidate with its controls, decomposed unless it is larger than ``LARGEST_DECOMPOSED``."""
        decomposed = candidate if 1 < len(candidate) <= LARGEST_DECOMPOSED else ()
        all_units = tuple(range(len(units)))

        def allowed(group: Group) -> Group | None:
            return group if units.allows(group) else None

        return cls(
            candidate=candidate,
            site_units=allowed(units.at_sites(units.sites_of(candidate))),
            controls=controls,
            singles=tuple((unit,) for unit in decomposed),
            leave_one_out=tuple(tuple(u for u in candidate if u != unit) for unit in decomposed),
            all_units=allowed(all_units),
            complement=allowed(tuple(unit for unit in all_units if unit not in candidate)),
        )

    def up_to(self, n: int) -> Case:
        """The same case with its first ``n`` controls. If there are more, it counts as stopped early."""
        if n >= len(self.controls.groups):
            return self
        first = replace(self.controls, groups=self.controls.groups[:n])
        return replace(self, controls=first, singles=(), leave_one_out=(), stopped_early=True)

    @property
    def compared_groups(self) -> list[Group]:
        """The groups that early stopping looks at: candidate, its whole sites, controls."""
        sites = [] if self.site_units is None else [self.site_units]
        return [self.candidate, *sites, *self.controls.groups]

    @property
    def ablated_groups(self) -> list[Group]:
        """Every group that is ablated."""
        if self.stopped_early:
            return self.compared_groups
        whole = [group for group in (self.all_units, self.complement) if group is not None]
        return [*self.compared_groups, *self.singles, *self.leave_one_out, *whole]


def cases_of(candidates: Iterable[Group], trial: Trial) -> tuple[Case, ...]:
    """The cases of a cell. Candidates of the same size have separate controls, see :meth:`Trial.draw`."""
    seen: Counter[int] = Counter()
    cases = []
    for candidate in candidates:
        cases.append(Case.of(candidate, trial.units, trial.draw(candidate, seen[len(candidate)])))
        seen[len(candidate)] += 1
    return tuple(cases)


def conditions(cases: Iterable[Case]) -> list[Group]:
    """Every group that is ablated, once. The baseline comes first."""
    return list(dict.fromkeys([(), *(group for case in cases for group in case.ablated_groups)]))


def evaluate_cases(cases: Sequence[Case], trial: Trial, tick: Tick) -> tuple[Sequence[Case], Values]:
    """All values, and the cases with the controls that count. Groups that cases share are evaluated once."""
    values: dict[Group, np.ndarray] = {}

    def evaluate(groups: Iterable[Group]) -> None:
        missing = [group for group in groups if group not in values]
        if missing:
            new_values = trial.values(trial.batch, missing, tick)
            values.update((group, new_values[:, i]) for i, group in enumerate(missing))

    if cases and trial.futility is not None:
        cases = _stop_for_futility(cases, trial, trial.futility, values, evaluate)
    evaluate(conditions(cases))
    return cases, values


def _stop_for_futility(
    cases: Sequence[Case], trial: Trial, futility: int, values: Values, evaluate: Callable[[Iterable[Group]], None]
) -> Sequence[Case]:
    """Evaluate controls in rounds, until no candidate needs another one. All candidates stop together."""
    drawn = max(len(case.controls.groups) for case in cases)
    begin, end = MIN_CONTROLS, first_round(drawn, futility)
    if end == drawn:
        return cases
    while True:
        evaluate(dict.fromkeys([(), *(group for case in cases for group in case.up_to(end).compared_groups)]))
        interims = [Interim.of(case, end, trial, values) for case in cases]
        for m in range(begin, end + 1):
            if not any(interim.still_needed(m, futility) for interim in interims):
                return [case.up_to(m) for case in cases]
        if end == drawn:
            return cases
        begin, end = end + 1, min(drawn, end + max(interim.still_needed(end, futility) for interim in interims))


@dataclass(frozen=True)
class Interim:
    """An interim result: a candidate's damage and that of the controls evaluated so far, on the deciding metric.

    ``drawn``: number of available controls. ``decidable``: they are enough for p to reach alpha. ``delta``: None where
    every metric is saturated; further controls then add no information.
    """

    drawn: int
    decidable: bool
    delta: float | None = None
    controls: tuple[float, ...] = ()
    inflation: float = 1.0
    damage: int = 1

    @classmethod
    def of(cls, case: Case, evaluated: int, trial: Trial, values: Values) -> Interim:
        """The interim result after the first ``evaluated`` controls of a case."""
        drawn, baseline = len(case.controls.groups), values[()]
        decidable = enough(drawn, trial.alpha)
        judged = [trial.in_scope(case.candidate, values) for values in baseline]
        usable = (m for m, metric in enumerate(trial.metrics) if not saturated(metric, judged[m]))
        m = next(filter(trial.decides, usable), None)
        if m is None:
            return cls(drawn, decidable)
        groups = [case.candidate, *case.controls.groups[:evaluated]]
        delta, *controls = (trial.mean_change(group, values[group][m] - baseline[m]) for group in groups)
        return cls(drawn, decidable, delta, tuple(controls), case.controls.inflation, trial.metrics[m].damage)

    def still_needed(self, m: int, futility: int) -> int:
        """How many more controls to evaluate after the first ``m``. 0: no more are needed, or none are left.

        Candidates with too few controls to reach alpha are tested against all of them; early stopping does not apply.
        """
        if m >= self.drawn or not self.decidable:
            return max(0, self.drawn - m)
        if self.delta is None:
            return 0
        k = as_damaging(self.delta, self.controls[:m], self.inflation, self.damage)
        return 0 if k >= futility else next_round(m, int(k), futility)


def saturated(metric: Metric, baseline: Float[np.ndarray, " examples"]) -> bool:
    """Whether the baseline mean is already the metric's worst value, or there is no example."""
    return not len(baseline) or float(baseline.mean()) == metric.worst
