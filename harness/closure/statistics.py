"""How far a candidate's damage stands out from its controls', and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from harness.seeds import rng_for

RESAMPLES = 1999


@dataclass(frozen=True)
class Effect:
    """What ablation did to one metric.

    ``baseline``, ``ablated``: means over examples; ``delta``: their difference; ``controls``: the same difference for
    each control group; ``z``: delta in standard deviations of the controls, in the metric's own direction (None with
    fewer than two controls, or where they do not differ); ``p``: permutation p-value in the damage direction (None
    without controls); ``p_holm``: corrected for the metrics tested together; ``interval``: 95 % interval of delta over
    examples (None with a single example); ``damage``: the sign of a change for the worse; ``saturated``: the baseline
    is already as bad as can be.
    """

    baseline: float
    ablated: float
    delta: float
    controls: tuple[float, ...]
    z: float | None
    p: float | None
    p_holm: float | None
    interval: tuple[float, float] | None
    damage: int
    saturated: bool = False


def z_score(delta: float, controls: Sequence[float], ddof: int = 1) -> float | None:
    r""":math:`(\delta - \bar c) / s_c`, with ``ddof`` degrees of freedom taken from the standard deviation.

    None where it is not defined: no spread among the controls, or too few of them.
    """
    if len(controls) <= ddof or min(controls) == max(controls):
        return None  # asked of the controls, not of their spread: rounding gives equal numbers one of 1e-17
    spread = float(np.std(controls, ddof=ddof))
    return (delta - float(np.mean(controls))) / spread if spread > 0 else None


def p_value(delta: float, controls: Sequence[float], damage: int) -> float | None:
    r"""Permutation p-value, one-sided towards damage: :math:`(1 + \#\{d c_i \ge d \delta\}) / (1 + n)`.

    Never below ``1 / (1 + n)``: with five controls 0.17 is the end. None without controls.
    Source: Phipson & Smyth 2010.
    """
    if not controls:
        return None
    as_bad = sum(damage * control >= damage * delta for control in controls)
    return (1 + as_bad) / (1 + len(controls))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down correction over the p-values that exist (the others stay None). Source: Holm 1979."""
    known = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    floor = 0.0
    for rank, (p, i) in enumerate(known):
        floor = max(floor, min(1.0, (len(known) - rank) * p))
        corrected[i] = floor
    return corrected


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """q-values over a board: the smallest false-discovery rate at which each would be called. Source: BH 1995."""
    from scipy.stats import false_discovery_control

    return [float(q) for q in false_discovery_control(p_values)] if p_values else []


def bootstrap_interval(deltas: Float[np.ndarray, " examples"], seed: int) -> tuple[float, float] | None:
    """95 % percentile interval of the mean, examples resampled with replacement; None with a single example.

    Deltas are paired (the same example with and without ablation), so differences between examples cancel.
    """
    n = len(deltas)
    if n < 2:
        return None
    rng = rng_for(seed, "bootstrap")
    means = np.array([deltas[rng.integers(n, size=n)].mean() for _ in range(RESAMPLES)])
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def wilson_interval(passed: int, n: int) -> tuple[float, float]:
    """95 % interval of a proportion. Source: Wilson 1927."""
    from scipy.stats import binomtest

    interval = binomtest(passed, n).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)
