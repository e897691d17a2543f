"""The effect of a candidate on one metric: its size, its certainty, and how it compares with other groups."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from harness.closure.cases import Case, saturated
from harness.closure.comparison import as_extreme
from harness.closure.intervals import FEW, beyond_groups, flips, mean_interval
from harness.closure.outcomes import Outcomes
from harness.closure.statistics import Effect, z_score
from harness.closure.trial import Trial

KEPT = 199
"""Changes by example are kept of the candidate and of up to this many compared groups."""
LEVEL = 0.025
"""One-sided level at which damage, or an improvement of the first metric, is certain."""


def effect_of(
    m: int,
    case: Case,
    outcomes: Outcomes,
    statistics: Float[np.ndarray, " groups"],
    controls: Sequence[float] | Float[np.ndarray, " compared"],
    level: float,
) -> Effect:
    """The effect on one metric. Every group is judged on its own examples. ``level``: of an improvement."""
    trial, candidate = outcomes.trial, case.candidate
    metric = trial.metrics[m]
    baseline = trial.in_scope(candidate, outcomes.values[()][m])
    change = trial.in_scope(candidate, outcomes.change(candidate)[m])
    yes_no = bool(np.isin(outcomes.values[()][m], (0, 1)).all())  # equal changes of a loss are no counts
    mean = float(baseline.mean()) if len(baseline) else 0.0
    delta = float(outcomes.mean_change(candidate, candidate)[m])
    members = set(candidate)
    disjoint = [float(c) for c, group in zip(controls, case.compared, strict=True) if members.isdisjoint(group)]
    as_much = as_extreme(metric.damage * delta, metric.damage * np.array(disjoint))
    exact = trial.test == "exact"
    return Effect(
        baseline=mean,
        ablated=mean + delta,
        delta=delta,
        controls=tuple(short(c) if exact else float(c) for c in controls),
        z=z_score(delta, disjoint, trial.ddof),
        p=case.comparison.p(statistics[0], statistics[1:]),
        p_adjusted=None,
        damage=metric.damage,
        saturated=saturated(metric, baseline),
        decides=trial.decides(m),
        statistic=_finite(statistics[0]) if exact else None,
        statistics=tuple(_finite(value) for value in statistics[1:]) if exact else (),
        share=as_much / len(disjoint) if disjoint else None,
        disjoint=len(disjoint),
        beyond=_beyond(change, case, outcomes) if m == 0 and trial.scope == "all" else None,
        **_certain(change, metric.damage, trial, trial.clusters(candidate), level, yes_no),
    )


def _certain(
    change: Float[np.ndarray, " judged"],
    damage: int,
    trial: Trial,
    clusters: Int[np.ndarray, " judged"] | None,
    level: float,
    yes_no: bool,
) -> dict[str, Any]:
    """What is certain about the mean change: its interval or its counts, and its direction."""
    counts = flips(change, damage) if yes_no and len(change) > 1 else None
    if counts is None:
        return _by_interval(change, damage, trial.seed, clusters, level)
    shown = {"changed": (counts.worse, counts.better)}
    if clusters is None:
        low, high = counts.bound()
        interval = (low, high) if damage > 0 else (-high, -low)
        certain = {"harmed": counts.p_worse <= LEVEL, "helped": counts.p_better <= level, "bound": high}
        return {"interval": interval if counts.worse + counts.better >= FEW else None, **certain, **shown}
    return {**_by_document(change, damage, trial.seed, clusters, level), **shown}


def _by_document(
    change: Float[np.ndarray, " judged"], damage: int, seed: int, clusters: Int[np.ndarray, " judged"], level: float
) -> dict[str, Any]:
    """What is certain about a yes/no metric: what both the interval over documents and the number of documents that
    got worse and better show. The interval is left out where they differ, or where few documents changed.
    """
    found = _by_interval(change, damage, seed, clusters, level)
    documents = flips(np.sign(np.bincount(clusters, weights=change)), damage)
    assert documents is not None
    certain = {
        "harmed": found["harmed"] and documents.p_worse <= LEVEL,
        "helped": found["helped"] and documents.p_better <= level,
    }
    agree = all(found[key] == value for key, value in certain.items())
    many = documents.worse + documents.better >= FEW
    return {**found, **certain, "interval": found["interval"] if agree and many else None}


def _by_interval(
    change: Float[np.ndarray, " judged"],
    damage: int,
    seed: int,
    clusters: Int[np.ndarray, " judged"] | None,
    level: float,
) -> dict[str, Any]:
    """What the bootstrap-t interval of the mean change says."""
    interval = mean_interval(change, seed, clusters)
    if interval is None:
        return {"interval": None, "harmed": False, "helped": False}
    wider = interval if level == LEVEL else mean_interval(change, seed, clusters, 1 - 2 * level)
    _, helped = _damage_side(wider, damage)
    low, high = _damage_side(interval, damage)
    return {"interval": interval, "harmed": low > 0, "helped": helped < 0, "bound": high}


def _beyond(change: Float[np.ndarray, " examples"], case: Case, outcomes: Outcomes) -> tuple[float, float] | None:
    """Interval of the first metric's change beyond that of groups without a common unit (up to ``KEPT``)."""
    members = set(case.candidate)
    groups = [group for group in case.compared if members.isdisjoint(group)][:KEPT]
    changes = np.array([outcomes.change(group)[0] for group in groups]).reshape(len(groups), len(change))
    return beyond_groups(change, changes, outcomes.trial.seed)


def _damage_side(interval: tuple[float, float] | None, damage: int) -> tuple[float, float]:
    """The interval of the damage, positive for the worse."""
    assert interval is not None
    low, high = sorted(damage * bound for bound in interval)
    return low, high


def short(value: float) -> float:
    """Eight digits: more than a model in single precision gives. Records hold many of these numbers."""
    return float(f"{value:.8g}")


def _finite(value: float) -> float | None:
    return short(value) if math.isfinite(value) else None
