"""The closure test: ablate a candidate, its parts, its controls and its whole layers, and compare the damage."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Bool, Float

from harness.closure import anatomy
from harness.closure.anatomy import OnInput
from harness.closure.statistics import Effect, bootstrap_interval, inflated, max_t, p_value, selection_p, z_score
from harness.closure.trial import Case, Trial, Values, conditions, evaluated, saturated
from harness.closure.verdict import Verdict, decide, decision_order, enough
from harness.data.sampling import Group
from harness.data.stages import Metric, Tick


@dataclass(frozen=True)
class Anatomy:
    """What one metric says of the inside of a group.

    ``sufficiency``: share of the damage of ablating every unit that is spared when the candidate alone is left; ``leave_one_out``:
    of the group's damage, what is lost without each unit, in the order of ``units``; ``dispensable``: places of the units that
    add nothing and do nothing alone; ``interaction``: what the whole does beyond its parts (about -1: a serial chain;
    0: independent parts; above 0: they back each other up), with its interval; ``on_input``: the damage where the group
    is active; ``contrast``: the damage on examples of another kind, with its interval. None where it was not asked
    for, or is not defined; a group that was given up is not asked for what takes further ablations (the first four).
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
    """One candidate's day in court.

    ``units``: labels of the group; ``n_examples``: on how many it was tested; ``n_controls``: distinct control groups
    that were evaluated; ``stopped_early``: there are more, but so many did as much damage that no more were evaluated;
    ``shortfall``: layers (or classes) in which controls could not be matched, with the number of units taken elsewhere;
    ``effects``: per metric; ``site_ablation``: delta per metric when every unit of the candidate's layers is ablated;
    ``anatomy``: per metric, what is inside; ``inflation``: by how much the controls were spread before p was taken (see
    :class:`ControlSets`; None: without bound, so that nothing can be said); ``dispensable``: units without which the primary
    metric suffers as much; ``selection_p``: p of the damage against the best groups of the same pipeline on permuted
    data, where the candidate was chosen on the examples it is tested on.
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


@dataclass(frozen=True)
class Tested:
    """A report, and the change of every metric on every example behind it.

    ``deltas`` [metrics, 1 + controls, examples]: the candidate's first, then each control's.
    """

    report: ClosureReport
    deltas: Float[np.ndarray, "metrics groups examples"]


def close(cases: Sequence[Case], trial: Trial, tick: Tick, null_damage: Sequence[float] = ()) -> tuple[Tested, ...]:
    """Put the candidates of a cell to the test.

    Each is evaluated on the same examples as its controls; see :class:`Effect` and :class:`Anatomy` for what is
    computed per metric and :data:`RULES` for how the verdict follows. p-values are corrected over all candidates
    and metrics.
    ``null_damage``: damage to the primary metric by the best groups of the same pipeline on permuted data.
    """
    cases, values = evaluated(cases, trial, tick)
    contrast = _contrast(cases, trial, tick)
    heard = [_hear(case, trial, values, contrast.get(case.candidate), null_damage) for case in cases]
    effects = _corrected([tested.report for tested in heard], trial.alpha)
    return tuple(_judged(tested, of, trial.alpha) for tested, of in zip(heard, effects, strict=True))


def _contrast(cases: Sequence[Case], trial: Trial, tick: Tick) -> Values:
    """What each candidate changes on examples of another kind; nothing where there are none."""
    if trial.contrast is None:
        return {}
    groups = list(dict.fromkeys([(), *(case.candidate for case in cases)]))
    values = trial.evaluate(trial.contrast, groups, tick)
    return {group: values[:, i] - values[:, 0] for i, group in enumerate(groups)}


def _hear(
    case: Case,
    trial: Trial,
    values: Values,
    contrast: Float[np.ndarray, "metrics others"] | None,
    null_damage: Sequence[float],
) -> Tested:
    groups = conditions([case])
    place = {group: i for i, group in enumerate(groups)}
    active = _active(case.candidate, trial)
    units = trial.subject.units
    effects: dict[str, Effect] = {}
    anatomies: dict[str, Anatomy] = {}
    bounds: dict[str, float] = {}
    kept: list[np.ndarray] = []
    for m, metric in enumerate(trial.metrics):
        baseline = values[()][m]
        deltas = np.stack([values[group][m] - baseline for group in groups])
        candidate = deltas[place[case.candidate]]
        controls = deltas[[place[group] for group in case.drawn.groups]]
        effects[metric.name] = _effect(metric, baseline, candidate, controls, case.drawn.inflation, trial)
        bounds[metric.name] = float(deltas[place[case.layers]].mean())
        shift = None if contrast is None else contrast[m]
        anatomies[metric.name] = _anatomy(case, metric, deltas, place, active, shift, trial)
        kept.append(np.concatenate([candidate[None], controls]))
    primary = decision_order(effects)[0]
    inside = anatomies[primary]
    report = ClosureReport(
        units=tuple(units.names(case.candidate)),
        n_examples=len(trial.batch),
        n_controls=len(case.drawn.groups),
        shortfall={f"L{where}" if isinstance(where, int) else where: n for where, n in case.drawn.shortfall.items()},
        effects=effects,
        site_ablation=bounds,
        verdict=Verdict.UNDERPOWERED,  # until all candidates have been heard
        reason="",
        anatomy=anatomies,
        inflation=case.drawn.inflation if math.isfinite(case.drawn.inflation) else None,
        dispensable=tuple(units.names(case.candidate[i] for i in inside.dispensable)),
        selection_p=selection_p(effects[primary].delta, null_damage, effects[primary].damage),
        stopped_early=case.stopped_early,
    )
    return Tested(report, np.stack(kept))


def _effect(
    metric: Metric,
    baseline: Float[np.ndarray, " examples"],
    candidate: Float[np.ndarray, " examples"],
    controls: Float[np.ndarray, "controls examples"],
    inflation: float,
    trial: Trial,
) -> Effect:
    delta, against = float(candidate.mean()), tuple(float(mean) for mean in controls.mean(axis=1))
    mean = float(baseline.mean())
    return Effect(
        baseline=mean,
        ablated=mean + delta,
        delta=delta,
        controls=against,
        z=z_score(delta, against, trial.ddof),
        p=p_value(delta, inflated(against, inflation), metric.damage) if math.isfinite(inflation) else None,
        p_adjusted=None,
        interval=bootstrap_interval(candidate, trial.seed),
        damage=metric.damage,
        saturated=saturated(metric, baseline),
    )


def _anatomy(
    case: Case,
    metric: Metric,
    deltas: Float[np.ndarray, "conditions examples"],
    place: Mapping[Group, int],
    active: Bool[np.ndarray, " examples"] | None,
    shift: Float[np.ndarray, " others"] | None,
    trial: Trial,
) -> Anatomy:
    def of(groups: Sequence[Group]) -> Float[np.ndarray, "groups examples"]:
        return deltas[[place[group] for group in groups]]

    whole = deltas[place[case.candidate]]
    together = anatomy.interaction(whole, of(case.parts), trial.seed) if case.parts else None
    leave_one_out = anatomy.leave_one_out(whole, of(case.without)) if case.without else None
    single_unit = anatomy.single_unit(whole, of(case.parts)) if case.parts else None
    return Anatomy(
        sufficiency=None
        if case.stopped_early
        else anatomy.sufficiency(deltas[place[case.everything]], deltas[place[case.others]], metric.damage),
        leave_one_out=leave_one_out,
        dispensable=anatomy.dispensable(leave_one_out, single_unit) if leave_one_out else (),
        interaction=together.value if together else None,
        interaction_interval=together.interval if together else None,
        on_input=None
        if active is None
        else anatomy.on_input(whole, of(case.drawn.groups), active, metric.damage, trial.ddof, case.drawn.inflation),
        contrast=None if shift is None else (float(shift.mean()), bootstrap_interval(shift, trial.seed)),
    )


def _active(candidate: Group, trial: Trial) -> Bool[np.ndarray, " examples"] | None:
    """On which examples the group is active; None where activity was not measured per example."""
    if trial.activity is None or len(trial.activity.values) != len(trial.batch):
        return None
    return anatomy.active(trial.activity.values[:, list(candidate)], trial.rule)


def _corrected(cell: Sequence[ClosureReport], alpha: float) -> list[dict[str, Effect]]:
    """p-values corrected over a cell: over its candidates by the largest statistic, over metrics by their order.

    Metrics are asked in a fixed order, and one counts only if those before it did: then each may be asked at the full
    level, and its corrected p is the largest so far (Maurer, Hothorn & Lehmacher 1995). A saturated one is not asked.
    """
    corrected: list[dict[str, Effect]] = [{} for _ in cell]
    for name in decision_order(cell[0].effects) if cell else ():
        over_candidates = _over_candidates(name, cell, alpha)
        for report, done, p in zip(cell, corrected, over_candidates, strict=True):
            before = [effect.p_adjusted for effect in done.values() if effect.p_adjusted is not None]
            done[name] = replace(report.effects[name], p_adjusted=None if p is None else max([p, *before]))
    return [{name: done[name] for name in report.effects} for report, done in zip(cell, corrected, strict=True)]


def _over_candidates(name: str, cell: Sequence[ClosureReport], alpha: float) -> list[float | None]:
    """One metric's p per candidate, corrected over the candidates that can reach ``alpha`` at all.

    Where they have different numbers of distinct controls, as many are used as the fewest.
    """
    effects = [report.effects[name] for report in cell]
    tests = [
        (i, e, report.inflation or 1.0)
        for i, (e, report) in enumerate(zip(effects, cell, strict=True))
        if not e.saturated and e.p is not None and (report.stopped_early or enough(len(e.controls), alpha))
    ]
    found = [None if effect.saturated else effect.p for effect in effects]
    if len(tests) > 1:
        n = min(len(e.controls) for _, e, _ in tests)
        damage = np.array([e.damage * e.delta for _, e, _ in tests])
        controls = np.array([[e.damage * c for c in inflated(e.controls, inflation)[:n]] for _, e, inflation in tests])
        for (i, _, _), p in zip(tests, max_t(damage, controls), strict=True):
            found[i] = float(p)
    return found


def _judged(tested: Tested, effects: Mapping[str, Effect], alpha: float) -> Tested:
    verdict, reason = decide(effects, alpha, tested.report.selection_p, tested.report.stopped_early)
    return replace(tested, report=replace(tested.report, effects=effects, verdict=verdict, reason=reason))
