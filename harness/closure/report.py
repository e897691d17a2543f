"""The closure test: ablate candidates, their parts, their controls and their whole sites, and compare the damage."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Bool, Float

from harness.closure import anatomy
from harness.closure.anatomy import OnInput
from harness.closure.statistics import Effect, bootstrap_interval, inflated, max_t, p_value, selection_p, z_score
from harness.closure.trial import Case, Trial, Values, conditions, evaluate_cases, saturated
from harness.closure.verdict import Verdict, decide, decision_order, enough
from harness.data.contracts import Metric, Tick
from harness.data.sampling import Group


@dataclass(frozen=True)
class Anatomy:
    """The inside of a group, by one metric.

    ``sufficiency``: share of the damage of ablating every unit that is avoided when only the candidate is left.
    ``leave_one_out``: share of the group's damage that is lost without each unit, in the order of ``units``.
    ``dispensable``: positions of the units that add nothing to the group's damage and do none alone. ``interaction``:
    damage of the group beyond the sum of its units' (about -1: a serial chain; 0: independent units; above 0: backups),
    with its interval. ``on_input``: damage where the group is active. ``contrast``: change on the contrast batch, with
    its interval. None: not requested or not defined. The first four are None where the test stopped early, because they
    need further ablations.
    """

    sufficiency: float | None
    leave_one_out: tuple[float, ...] | None
    dispensable: tuple[int, ...]
    interaction: float | None
    interaction_interval: tuple[float, float] | None
    on_input: OnInput | None
    contrast: tuple[float, tuple[float, float] | None] | None


@dataclass(frozen=True)
class ClosureReport:
    """The result of the closure test of one candidate.

    ``units``: labels of the group. ``scope``: the examples that it is judged on (all, those on which it is active, or
    those of its ``stratum``): ``n_examples`` of ``n_tested``. ``n_proposed``: how many it was proposed on.
    ``n_controls``: distinct control groups that were counted. ``stopped_early``: there are more controls, but so many
    did as much damage that testing stopped.
    ``shortfall``: sites (or classes) with too few units for matched controls, with the number of units that were taken
    from others. ``effects``: by metric. ``site_ablation``: by metric, the change when every unit of the candidate's
    sites is ablated (empty if they cannot be ablated together). ``anatomy``: by metric, the inside of the group.
    ``inflation``: the factor by which the spread of the controls was increased before p was computed (see
    :class:`ControlSets`; None: infinite, so that p is undefined). ``dispensable``: units without which the primary
    metric changes as much. ``selection_p``: p of the damage against the best groups of the same pipeline on permuted
    data, where the candidate was chosen on its test examples.
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


@dataclass(frozen=True)
class CandidateResult:
    """The report on a candidate, and the changes of every metric on every example that it was computed from.

    ``deltas`` [metrics, 1 + controls, examples]: first the candidate's, then each control's.
    """

    report: ClosureReport
    deltas: Float[np.ndarray, "metrics groups examples"]


def close(
    cases: Sequence[Case], trial: Trial, tick: Tick, null_damage: Sequence[float] = ()
) -> tuple[CandidateResult, ...]:
    """Run the closure test on candidates: :func:`measure`, then :func:`judge`."""
    return judge(measure(cases, trial, tick, null_damage), trial.alpha)


def measure(
    cases: Sequence[Case], trial: Trial, tick: Tick, null_damage: Sequence[float] = ()
) -> list[CandidateResult]:
    """Ablate the candidates and their controls. The results have no verdicts yet.

    Every candidate and its controls are evaluated on the same examples. :class:`Effect` and :class:`Anatomy` say what
    is computed by metric. ``null_damage``: change of the primary metric by the best groups of the same pipeline on
    permuted data.
    """
    cases, values = evaluate_cases(cases, trial, tick)
    contrast = _contrast(cases, trial, tick)
    return [_measure(case, trial, values, contrast.get(case.candidate), null_damage) for case in cases]


def judge(results: Sequence[CandidateResult], alpha: float) -> tuple[CandidateResult, ...]:
    """The results of a cell with their verdicts (:data:`RULES`). p is corrected over all candidates and metrics."""
    corrected = _corrected([result.report for result in results], alpha)
    return tuple(_judge(result, effects, alpha) for result, effects in zip(results, corrected, strict=True))


def _contrast(cases: Sequence[Case], trial: Trial, tick: Tick) -> Values:
    """The changes by each candidate on the contrast batch. Empty if there is no contrast batch."""
    if trial.contrast is None:
        return {}
    groups = list(dict.fromkeys([(), *(case.candidate for case in cases)]))
    values = trial.values(trial.contrast, groups, tick)
    return {group: values[:, i] - values[:, 0] for i, group in enumerate(groups)}


@dataclass(frozen=True)
class _Deltas:
    """Change of one metric on every example: one row per ablated group."""

    array: Float[np.ndarray, "groups examples"]
    row: Mapping[Group, int]

    def __getitem__(self, group: Group) -> Float[np.ndarray, " examples"]:
        change: Float[np.ndarray, " examples"] = self.array[self.row[group]]
        return change

    def rows(self, groups: Sequence[Group]) -> Float[np.ndarray, "chosen examples"]:
        return self.array[[self.row[group] for group in groups]]


def _measure(
    case: Case,
    trial: Trial,
    values: Values,
    contrast: Float[np.ndarray, "metrics others"] | None,
    null_damage: Sequence[float],
) -> CandidateResult:
    """The report on a candidate, except for corrected p and verdict, which depend on other candidates."""
    groups = conditions([case])
    row = {group: i for i, group in enumerate(groups)}
    active = trial.active(case.candidate)
    effects: dict[str, Effect] = {}
    anatomies: dict[str, Anatomy] = {}
    site_ablation: dict[str, float] = {}
    kept: list[np.ndarray] = []
    for m, metric in enumerate(trial.metrics):
        baseline = values[()][m]
        deltas = _Deltas(np.stack([values[group][m] - baseline for group in groups]), row)
        effects[metric.name] = _effect(m, trial.in_scope(case.candidate, baseline), deltas, case, trial)
        if case.site_units is not None:
            site_ablation[metric.name] = trial.mean_change(case.candidate, deltas[case.site_units])
        shift = None if contrast is None else contrast[m]
        anatomies[metric.name] = _anatomy(case, metric, deltas, active, shift, trial)
        kept.append(deltas.rows([case.candidate, *case.controls.groups]))
    primary = decision_order(effects)[0]
    names = trial.units.names
    controls = case.controls
    report = ClosureReport(
        units=tuple(names(case.candidate)),
        n_examples=len(trial.in_scope(case.candidate, np.ones(len(trial.batch)))),
        scope="stratum" if trial.in_stratum else trial.scope,
        stratum=trial.stratum,
        n_proposed=None if trial.reference is None else len(trial.reference),
        n_tested=len(trial.batch),
        n_controls=len(controls.groups),
        shortfall=dict(controls.shortfall),
        effects=effects,
        site_ablation=site_ablation,
        verdict=Verdict.UNDERPOWERED,  # replaced once p is corrected over all candidates
        reason="",
        anatomy=anatomies,
        inflation=controls.inflation if math.isfinite(controls.inflation) else None,
        dispensable=tuple(names(case.candidate[i] for i in anatomies[primary].dispensable)),
        selection_p=selection_p(effects[primary].delta, null_damage, effects[primary].damage),
        stopped_early=case.stopped_early,
    )
    return CandidateResult(report, np.stack(kept))


def _effect(m: int, baseline: Float[np.ndarray, " judged"], deltas: _Deltas, case: Case, trial: Trial) -> Effect:
    """The effect on one metric, on the examples that each group is judged on."""
    metric, change = trial.metrics[m], trial.in_scope(case.candidate, deltas[case.candidate])
    mean = float(baseline.mean()) if len(baseline) else 0.0
    delta = trial.mean_change(case.candidate, deltas[case.candidate])
    controls = tuple(trial.mean_change(control, deltas[control]) for control in case.controls.groups)
    inflation = case.controls.inflation
    return Effect(
        baseline=mean,
        ablated=mean + delta,
        delta=delta,
        controls=controls,
        z=z_score(delta, controls, trial.ddof),
        p=p_value(delta, inflated(controls, inflation), metric.damage) if math.isfinite(inflation) else None,
        p_adjusted=None,
        interval=bootstrap_interval(change, trial.seed),
        damage=metric.damage,
        saturated=saturated(metric, baseline),
        decides=trial.decides(m),
    )


def _anatomy(
    case: Case,
    metric: Metric,
    deltas: _Deltas,
    active: Bool[np.ndarray, " examples"] | None,
    shift: Float[np.ndarray, " others"] | None,
    trial: Trial,
) -> Anatomy:
    whole, singles = deltas[case.candidate], deltas.rows(case.singles)
    interaction = anatomy.interaction(whole, singles, trial.seed)
    leave_one_out = anatomy.leave_one_out(whole, deltas.rows(case.leave_one_out)) if case.leave_one_out else None
    single_unit = anatomy.single_unit(whole, singles) if case.singles else None
    sufficiency = on_input = None
    if not case.stopped_early and case.all_units is not None and case.complement is not None:
        sufficiency = anatomy.sufficiency(deltas[case.all_units], deltas[case.complement], metric.damage)
    if active is not None:
        controls = deltas.rows(case.controls.groups)
        on_input = anatomy.on_input(whole, controls, active, metric.damage, trial.ddof, case.controls.inflation)
    return Anatomy(
        sufficiency=sufficiency,
        leave_one_out=leave_one_out,
        dispensable=anatomy.dispensable(leave_one_out, single_unit) if leave_one_out else (),
        interaction=interaction.value if interaction else None,
        interaction_interval=interaction.interval if interaction else None,
        on_input=on_input,
        contrast=None if shift is None else (float(shift.mean()), bootstrap_interval(shift, trial.seed)),
    )


def _corrected(cell: Sequence[ClosureReport], alpha: float) -> list[dict[str, Effect]]:
    """Correct the p-values of a cell: over candidates by max-T, over metrics by a fixed sequence.

    Metrics are tested in a fixed order, and each one only if those before it were significant. Each can then be tested
    at the full level; its corrected p is the largest so far (Maurer, Hothorn & Lehmacher 1995). Saturated metrics are
    not tested.
    """
    corrected: list[dict[str, Effect]] = [{} for _ in cell]
    for name in decision_order(cell[0].effects) if cell else ():
        over_candidates = _over_candidates(name, cell, alpha)
        for report, done, p in zip(cell, corrected, over_candidates, strict=True):
            before = [effect.p_adjusted for effect in done.values() if effect.p_adjusted is not None]
            done[name] = replace(report.effects[name], p_adjusted=None if p is None else max([p, *before]))
    return [{name: done[name] for name in report.effects} for report, done in zip(cell, corrected, strict=True)]


def _over_candidates(name: str, cell: Sequence[ClosureReport], alpha: float) -> list[float | None]:
    """One metric's p by candidate, corrected over the candidates that can reach ``alpha``.

    If candidates have different numbers of controls, the smallest number is used for all.
    """
    effects = [report.effects[name] for report in cell]
    tests = [
        (i, effect, report.inflation or 1.0)
        for i, (effect, report) in enumerate(zip(effects, cell, strict=True))
        if not effect.saturated
        and effect.p is not None
        and (report.stopped_early or enough(len(effect.controls), alpha))
    ]
    corrected = [None if effect.saturated else effect.p for effect in effects]
    if len(tests) > 1:
        n = min(len(effect.controls) for _, effect, _ in tests)
        damage = np.array([effect.damage * effect.delta for _, effect, _ in tests])
        controls = np.array(
            [[effect.damage * c for c in inflated(effect.controls, inflation)[:n]] for _, effect, inflation in tests]
        )
        for (i, _, _), p in zip(tests, max_t(damage, controls), strict=True):
            corrected[i] = float(p)
    return corrected


def _judge(result: CandidateResult, effects: Mapping[str, Effect], alpha: float) -> CandidateResult:
    report = result.report
    verdict, reason = decide(effects, alpha, report.selection_p, report.stopped_early, report.n_examples)
    return replace(result, report=replace(report, effects=effects, verdict=verdict, reason=reason))
