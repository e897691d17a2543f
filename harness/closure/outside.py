"""The same ablation on the examples outside a candidate's stratum, and how much more it does inside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from harness.closure.cases import Case
from harness.closure.comparison import p_among
from harness.closure.effects import short
from harness.closure.intervals import mean_interval
from harness.closure.outcomes import Outcomes
from harness.closure.statistics import z_score


@dataclass(frozen=True)
class Outside:
    r"""One metric on the examples outside the stratum, in any stratum or none.

    .. math:: \text{gap} = d\,(\bar\Delta_{\text{inside}} - \bar\Delta_{\text{outside}}), \qquad
              p = \frac{1 + \#\{\text{gap}_i \ge \text{gap}\}}{1 + n}

    ``baseline``: mean without ablation; ``delta``: its mean change, with a 95 % ``interval`` over examples. ``gap``:
    damage inside minus damage outside (d: the sign of a change for the worse); ``gaps``: that of each group that the
    candidate is compared with. ``z``: the gap in standard deviations of those of groups that share no unit with the
    candidate. ``p`` is None where testing stopped early: the groups that count were then chosen by their statistic.

    A large gap alone is no circuit: it also follows where the ablation improves the outside.
    Source: closure paper, section 5.4 (gaps in the metric's own direction, five controls, and no p).
    """

    baseline: float
    delta: float
    interval: tuple[float, float] | None
    gap: float
    gaps: tuple[float, ...]
    z: float | None
    p: float | None


def outside_of(cases: Sequence[Case], inside: Outcomes) -> list[Mapping[str, Outside]]:
    """By case and metric. Empty mappings where the trial has no examples outside.

    Every group is ablated once more, without its parts: 1 + n conditions for a case with n compared groups.
    """
    if inside.trial.outside is None:
        return [{} for _ in cases]
    outside = Outcomes(replace(inside.trial, batch=inside.trial.outside), inside.tick)
    outside.evaluate(group for case in cases for group in (case.candidate, *case.compared))
    return [_of_case(case, inside, outside) for case in cases]


def _of_case(case: Case, inside: Outcomes, outside: Outcomes) -> Mapping[str, Outside]:
    trial, groups = outside.trial, [case.candidate, *case.compared]
    members = set(case.candidate)
    disjoint = [i for i, group in enumerate(case.compared) if members.isdisjoint(group)]
    clusters = trial.clusters(case.candidate)
    found = {}
    for m, metric in enumerate(trial.metrics):
        changes = [float(outside.mean_change(group, group)[m]) for group in groups]
        gap, *gaps = (
            metric.damage * (float(inside.mean_change(group, group)[m]) - change)
            for group, change in zip(groups, changes, strict=True)
        )
        found[metric.name] = Outside(
            baseline=float(outside.values[()][m].mean()),
            delta=changes[0],
            interval=mean_interval(outside.change(case.candidate)[m], trial.seed, clusters),
            gap=gap,
            gaps=tuple(map(short, gaps)),
            z=z_score(gap, [gaps[i] for i in disjoint], trial.ddof),
            p=p_among(gap, np.array(gaps)) if gaps and not case.stopped_early else None,
        )
    return found
