"""The closure test: ablate candidates, their parts and the groups that they are compared with; measure, then judge."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float

from harness.closure import anatomy
from harness.closure.anatomy import OnInput
from harness.closure.cases import Case, evaluate_cases, first_unsaturated, statistics_of
from harness.closure.comparison import Test
from harness.closure.correction import corrected
from harness.closure.effects import KEPT, LEVEL, effect_of
from harness.closure.intervals import mean_interval
from harness.closure.necessity import DISPENSABLE
from harness.closure.outcomes import Outcomes
from harness.closure.outside import Outside, outside_of
from harness.closure.statistics import Effect, selection_p
from harness.closure.task import Task, task_of
from harness.closure.trial import Trial
from harness.closure.verdict import FEWEST, Evidence, Verdict, decide, decision_order, enough
from harness.data.contracts import Tick
from harness.data.sampling import Group

LARGEST_DECOMPOSED = 16
"""Largest candidate whose leave-one-out shares and interaction are reported."""


@dataclass(frozen=True)
class Anatomy:
    """The inside of a group, by one metric.

    ``necessity``: what each unit adds to the group's damage (:mod:`harness.closure.necessity`), in the order of
    ``units``; None for units of a large group that were not examined. ``sufficiency``: share of the damage of ablating
    every unit that is avoided when only the candidate is left. ``leave_one_out``: share of the group's damage that is
    lost without each unit. ``dispensable``: positions of the units whose necessity is at most 5 % of the group's
    damage. ``interaction``: damage of the group beyond the sum of its units' (about -1: a serial chain; 0: independent
    units; above 0: backups), with its interval. ``on_input``: damage where the group is active. ``contrast``: change on
    the contrast batch, with its interval. None: not requested or not defined. Sufficiency is None where the test
    stopped early.
    """

    sufficiency: float | None
    leave_one_out: tuple[float, ...] | None
    dispensable: tuple[int, ...]
    interaction: float | None
    interaction_interval: tuple[float, float] | None
    on_input: OnInput | None
    contrast: tuple[float, tuple[float, float] | None] | None
    necessity: tuple[float | None, ...] | None = None


@dataclass(frozen=True)
class ClosureReport:
    """The result of the closure test of one candidate.

    ``units``: labels of the group. ``scope``: the examples that it is judged on (all, those on which it is active, or
    those of its ``stratum``): ``n_examples`` of ``n_tested``. ``n_proposed``: how many it was proposed on.

    ``test``: ``exact`` or ``disjoint``. ``profile``: how many units the group has in each cell of the partition within
    which groups are matched. ``comparable``: how many other groups there are to compare it with; ``groups``: those that
    count, as positions of units, in random order; ``n_controls``: their number. ``stopped_early``: there are more, but
    so many had at least the candidate's statistic that testing stopped.

    ``effects``: by metric. ``site_ablation``: by metric, the change when every unit of the candidate's sites is ablated
    (empty if they cannot be ablated together). ``anatomy``: by metric, the inside of the group. ``dispensable``: units
    that the group does not need for its damage to the first metric. ``selection_p``: p of the damage against the best
    groups of the same pipeline on permuted data, where the candidate was chosen on its test examples. ``task``: how
    well the model does the task without ablation, in a sentence; ``task_done``: whether it does (None: not checked).

    ``outside``: by metric, the same ablation on the ``n_outside`` examples outside the stratum, where the group is
    judged inside it. It does not decide.

    ``joint``: a pass needs an interaction below zero, and units that each add most of the damage. Of the former test:
    ``shortfall``: sites (or classes) with too few units for matched controls, with the number of units that were taken
    from others; ``inflation``: the factor by which the spread of the controls was increased before p was computed
    (None: infinite, so that p is undefined).
    """

    units: tuple[str, ...]
    n_examples: int
    n_controls: int
    shortfall: Mapping[str, int]
    effects: Mapping[str, Effect]
    site_ablation: Mapping[str, float]
    verdict: Verdict
    reason: str
    anatomy: Mapping[str, Anatomy] = field(default_factory=dict)
    inflation: float | None = 1.0
    dispensable: tuple[str, ...] = ()
    selection_p: float | None = None
    stopped_early: bool = False
    scope: str = "all"
    stratum: str = ""
    n_proposed: int | None = None
    n_tested: int | None = None
    test: Test = "disjoint"
    profile: Mapping[str, int] = field(default_factory=dict)
    comparable: int | None = None
    groups: tuple[tuple[int, ...], ...] = ()
    joint: bool = False
    task: str = ""
    task_done: bool | None = None
    outside: Mapping[str, Outside] = field(default_factory=dict)
    n_outside: int | None = None

    def evidence(self, alpha: float) -> Evidence:
        """What the verdict follows from."""
        first = decision_order(self.effects)[0]
        inside = self.anatomy.get(first)
        added = [value for value in inside.necessity or () if value is not None] if inside else []
        damage = self.effects[first].damage * self.effects[first].delta
        return Evidence(
            effects=self.effects,
            alpha=alpha,
            units=self.units,
            dispensable=self.dispensable,
            undecided=sum(value is None for value in inside.necessity or ()) if inside else 0,
            comparable=self.comparable,
            examples=self.n_examples,
            task=self.task if self.task_done is False else "",
            interaction=inside.interaction_interval if inside else None,
            least=min(added) / damage if added and damage > 0 else None,
            joint=self.joint,
            selection_p=self.selection_p,
            test=self.test,
        )


@dataclass(frozen=True)
class CandidateResult:
    """The report on a candidate, and the changes of every metric on every example that it was computed from.

    ``deltas`` [metrics, 1 + groups, examples]: first the candidate's, then those of up to ``KEPT`` compared groups.
    ``single_units``: the mean change of every metric over all examples, by each unit that was ablated alone.
    ``completeness``: by metric (:func:`harness.closure.anatomy.completeness`), where sufficiency is defined.
    """

    report: ClosureReport
    deltas: Float[np.ndarray, "metrics groups examples"]
    single_units: Mapping[int, Float[np.ndarray, " metrics"]] = field(default_factory=dict)
    completeness: Mapping[str, float] = field(default_factory=dict)


def close(
    cases: Sequence[Case], trial: Trial, tick: Tick, null_damage: Sequence[float] = ()
) -> tuple[CandidateResult, ...]:
    """Run the closure test on candidates: :func:`measure`, then :func:`judge`."""
    return judge(measure(cases, trial, tick, null_damage), trial.alpha)


def measure(
    cases: Sequence[Case], trial: Trial, tick: Tick, null_damage: Sequence[float] = ()
) -> list[CandidateResult]:
    """Ablate the candidates and the groups that they are compared with. The results have no verdicts yet.

    :class:`Effect` and :class:`Anatomy` say what is computed by metric. ``null_damage``: change of the first metric by
    the best groups of the same pipeline on permuted data.
    """
    if not cases:
        return []
    outcomes = Outcomes(trial, tick)
    cases = evaluate_cases(cases, outcomes)
    contrast = _contrast(cases, trial, tick)
    deciding = [metric for m, metric in enumerate(trial.metrics) if trial.decides(m)]
    check = trial.check_task and len(trial.batch) >= FEWEST  # fewer examples can show neither
    task = task_of(trial.evaluate, trial.batch, trial.intervention, deciding, trial.seed) if check else None
    outside = outside_of(cases, outcomes)
    return [
        _measure(case, outcomes, task, contrast.get(case.candidate), null_damage, there)
        for case, there in zip(cases, outside, strict=True)
    ]


def judge(results: Sequence[CandidateResult], alpha: float) -> tuple[CandidateResult, ...]:
    """The results of a cell with their verdicts. p is corrected over its candidates and metrics."""
    reports = [result.report for result in results]
    testable = [i for i, report in enumerate(reports) if report.comparable is None or enough(report.comparable, alpha)]
    effects_of_cell = corrected([report.effects for report in reports], testable)
    return tuple(_judge(result, effects, alpha) for result, effects in zip(results, effects_of_cell, strict=True))


def _contrast(cases: Sequence[Case], trial: Trial, tick: Tick) -> Mapping[Group, np.ndarray]:
    """The changes by each candidate on the contrast batch. Empty if there is no contrast batch."""
    if trial.contrast is None:
        return {}
    groups = list(dict.fromkeys([(), *(case.candidate for case in cases)]))
    values = trial.values(trial.contrast, groups, tick)
    return {group: values[:, i] - values[:, 0] for i, group in enumerate(groups)}


def _measure(
    case: Case,
    outcomes: Outcomes,
    task: Task | None,
    contrast: Float[np.ndarray, "metrics others"] | None,
    null_damage: Sequence[float],
    outside: Mapping[str, Outside],
) -> CandidateResult:
    """The report on a candidate, except for corrected p and verdict, which depend on other candidates."""
    trial, candidate, comparison = outcomes.trial, case.candidate, case.comparison
    statistics = statistics_of(case, outcomes)
    controls = np.array([outcomes.mean_change(group, group) for group in case.compared])
    necessity = case.parts.contributions(outcomes.damage(candidate))
    first_place = first_unsaturated(candidate, outcomes)
    effects: dict[str, Effect] = {}
    anatomies: dict[str, Anatomy] = {}
    for m, metric in enumerate(trial.metrics):
        level = LEVEL if m == first_place else LEVEL / max(1, trial.n_deciding - 1)
        compared = controls[:, m] if len(controls) else ()
        effects[metric.name] = effect_of(m, case, outcomes, statistics[:, m], compared, level)
        shift = None if contrast is None else contrast[m]
        anatomies[metric.name] = _anatomy(m, case, outcomes, necessity[:, m], shift)
    first = decision_order(effects)[0]
    names = trial.units.names
    site_changes = None if case.site_units is None else outcomes.mean_change(case.site_units, candidate)
    report = ClosureReport(
        units=tuple(names(candidate)),
        n_examples=trial.in_scope(candidate, np.ones(len(trial.batch))).shape[-1],
        scope="stratum" if trial.in_stratum else trial.scope,
        stratum=trial.stratum,
        n_proposed=None if trial.reference is None else len(trial.reference),
        n_tested=len(trial.batch),
        test=trial.test,
        profile=comparison.profile,
        comparable=len(comparison.groups),
        groups=case.compared,
        n_controls=case.n,
        shortfall=dict(comparison.shortfall),
        effects=effects,
        site_ablation={}
        if site_changes is None
        else {metric.name: float(change) for metric, change in zip(trial.metrics, site_changes, strict=True)},
        verdict=Verdict.UNDERPOWERED,  # replaced once p is corrected over all candidates
        reason="",
        anatomy=anatomies,
        inflation=comparison.inflation if math.isfinite(comparison.inflation) else None,
        dispensable=tuple(names(candidate[i] for i in anatomies[first].dispensable)),
        selection_p=selection_p(effects[first].delta, null_damage, effects[first].damage),
        stopped_early=case.stopped_early,
        joint=trial.joint,
        task=task.sentence if task else "",
        task_done=task.done if task and task.checked else None,
        outside=outside,
        n_outside=len(trial.outside) if trial.outside is not None and outside else None,
    )
    kept = [candidate, *case.compared[:KEPT]]
    deltas = np.stack([outcomes.change(group) for group in kept], axis=1)
    return CandidateResult(report, deltas, outcomes.single_units(), _completeness(case, outcomes))


def _completeness(case: Case, outcomes: Outcomes) -> dict[str, float]:
    if case.stopped_early or case.all_units is None:
        return {}
    everything, own = outcomes.change(case.all_units), outcomes.change(case.candidate)
    found = {
        metric.name: anatomy.completeness(everything[m], own[m], metric.damage)
        for m, metric in enumerate(outcomes.trial.metrics)
    }
    return {name: value for name, value in found.items() if value is not None}


def _anatomy(
    m: int,
    case: Case,
    outcomes: Outcomes,
    necessity: Float[np.ndarray, " members"],
    shift: Float[np.ndarray, " others"] | None,
) -> Anatomy:
    trial, candidate = outcomes.trial, case.candidate
    damage = trial.metrics[m].damage

    def rows(groups: Sequence[Group]) -> Float[np.ndarray, "groups examples"]:
        changes = [outcomes.change(group)[m] for group in groups]
        return np.array(changes).reshape(len(groups), len(trial.batch))

    def judged(groups: Sequence[Group]) -> Float[np.ndarray, "groups judged"]:
        inside: Float[np.ndarray, "groups judged"] = trial.in_scope(candidate, rows(groups))
        return inside

    whole = outcomes.change(candidate)[m]
    (own_change,) = judged([candidate])
    decomposed = 1 < len(candidate) <= LARGEST_DECOMPOSED and len(own_change) > 0
    interaction = anatomy.interaction(own_change, judged(case.parts.singles), trial.seed) if decomposed else None
    sufficiency = on_input = None
    if not case.stopped_early and case.all_units is not None and case.complement is not None:
        whole_model, complement = rows([case.all_units, case.complement])
        sufficiency = anatomy.sufficiency(whole_model, complement, damage)
    if (active := trial.active(candidate)) is not None:
        inflation = case.comparison.inflation
        on_input = anatomy.on_input(whole, rows(case.compared[:KEPT]), active, damage, trial.ddof, inflation)
        if trial.test == "exact":  # a description: z and p are enough
            on_input = replace(on_input, controls=())
    share = dict(zip(case.parts.members, necessity.tolist(), strict=True))
    own = damage * float(outcomes.mean_change(candidate, candidate)[m])
    spared = [i for i, unit in enumerate(candidate) if unit in share and share[unit] <= DISPENSABLE * own]
    return Anatomy(
        necessity=tuple(share.get(unit) for unit in candidate),
        sufficiency=sufficiency,
        leave_one_out=anatomy.leave_one_out(own_change, judged(case.parts.without)) if decomposed else None,
        dispensable=tuple(spared) if own > 0 and len(candidate) > 1 else (),
        interaction=interaction.value if interaction else None,
        interaction_interval=interaction.interval if interaction else None,
        on_input=on_input,
        contrast=None if shift is None else (float(shift.mean()), mean_interval(shift, trial.seed)),
    )


def _judge(result: CandidateResult, effects: Mapping[str, Effect], alpha: float) -> CandidateResult:
    report = replace(result.report, effects=effects)
    verdict, reason = decide(report.evidence(alpha))
    return replace(result, report=replace(report, verdict=verdict, reason=reason))
