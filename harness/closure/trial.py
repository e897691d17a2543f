"""The closure test: ablate a candidate, its controls and its whole layers, and compare the damage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from harness.batch import Batch
from harness.closure.statistics import Effect, bootstrap_interval, holm, p_value, z_score
from harness.closure.verdict import Verdict, decide
from harness.stages import Controls, ControlSets, Intervention, Metric, Subject, Tick, supply


@dataclass(frozen=True)
class ClosureReport:
    """One candidate's day in court.

    ``units``: labels of the group; ``n_examples``: on how many it was tested; ``n_controls``: distinct control groups;
    ``shortfall``: layers in which controls could not be matched, with the number of units taken elsewhere;
    ``effects``: per metric; ``upper_bound``: delta per metric when every unit of the candidate's layers is ablated.
    """

    units: tuple[str, ...]
    n_examples: int
    n_controls: int
    shortfall: Mapping[str, int]
    effects: Mapping[str, Effect]
    upper_bound: Mapping[str, float]
    verdict: Verdict
    reason: str


def close(
    candidate: tuple[int, ...],
    subject: Subject,
    batch: Batch,
    intervention: Intervention,
    controls: Controls,
    metrics: Sequence[Metric],
    alpha: float,
    ddof: int,
    seed: int,
    tick: Tick,
) -> ClosureReport:
    """Put one candidate to the test on ``batch``.

    Baseline, candidate, the candidate's whole layers, and every control group are evaluated on the same examples; see
    :class:`Effect` for what is computed per metric and :data:`RULES` for how the verdict follows.
    """
    units = subject.units
    drawn: ControlSets = supply(controls, candidate=candidate, units=units)
    whole_layers = units.in_layers({int(units.layers[unit]) for unit in candidate})
    conditions = [(), candidate, whole_layers, *drawn.groups]
    values = subject.evaluate(batch, conditions, intervention, metrics, tick)

    effects: dict[str, Effect] = {}
    bounds: dict[str, float] = {}
    for metric, per_condition in zip(metrics, values, strict=True):
        deltas = per_condition[1:] - per_condition[0]
        means = deltas.mean(axis=1)
        against = tuple(float(mean) for mean in means[2:])
        baseline = float(per_condition[0].mean())
        effects[metric.name] = Effect(
            baseline=baseline,
            ablated=float(per_condition[1].mean()),
            delta=float(means[0]),
            controls=against,
            z=z_score(float(means[0]), against, ddof),
            p=p_value(float(means[0]), against, metric.damage),
            p_holm=None,
            interval=bootstrap_interval(deltas[0], seed),
            damage=metric.damage,
            saturated=baseline == getattr(metric, "worst", None),
        )
        bounds[metric.name] = float(means[1])
    effects = _corrected(effects)
    verdict, reason = decide(effects, alpha)
    return ClosureReport(
        units=tuple(units.names(candidate)),
        n_examples=len(batch),
        n_controls=len(drawn.groups),
        shortfall={f"L{layer}": missing for layer, missing in drawn.shortfall.items()},
        effects=effects,
        upper_bound=bounds,
        verdict=verdict,
        reason=reason,
    )


def _corrected(effects: Mapping[str, Effect]) -> dict[str, Effect]:
    """Holm over the metrics that can show damage; a saturated one is not tested."""
    corrected = holm([None if effect.saturated else effect.p for effect in effects.values()])
    return {name: replace(effects[name], p_holm=p) for name, p in zip(effects, corrected, strict=True)}
