"""Statistics: how a candidate's damage compares with its controls', with intervals and corrections."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from harness.util.errors import HarnessError
from harness.util.seeds import rng_for

RESAMPLES = 1999
AT_ONCE = 1 << 14
"""How many numbers are drawn at once, so that resampling fits into the processor's cache."""


@dataclass(frozen=True)
class Effect:
    """The effect of ablation on one metric.

    ``baseline``, ``ablated``: means over examples. ``delta``: their difference. ``controls``: the same difference for
    each group that the candidate is compared with. ``statistic``: the candidate's statistic of the exact test, and
    ``statistics``: that of each compared group. ``p``: the share of groups with at least this statistic (in the former
    test: this damage), itself included. ``p_adjusted``: corrected for the candidates and metrics tested together.

    ``z``: delta in standard deviations of the compared groups that share no unit with the candidate, in the metric's
    own direction; ``disjoint``: how many these are; ``share``: which part of them does at least as much damage;
    ``beyond``: 95 % interval of delta minus their mean, over examples and groups (of the first metric only).

    ``interval``: 95 % interval of delta over examples; ``changed``: for a metric that is yes or no, how many examples
    got worse and better instead. ``harmed``, ``helped``: the ablation certainly made the metric worse, or better (at
    2.5 %; a metric that decides after the first is helped at 2.5 % divided by their number). ``bound``: the largest
    damage that is not excluded at 97.5 % (None: a single example). ``damage``: the sign of a change for the worse.
    ``saturated``: the baseline is already at the metric's worst value. ``decides``: the metric takes part in the
    verdict; the others are reported only.
    """

    baseline: float
    ablated: float
    delta: float
    controls: tuple[float, ...]
    z: float | None
    p: float | None
    p_adjusted: float | None
    interval: tuple[float, float] | None
    damage: int
    saturated: bool = False
    decides: bool = True
    statistic: float | None = None
    statistics: tuple[float | None, ...] = ()
    share: float | None = None
    disjoint: int = 0
    beyond: tuple[float, float] | None = None
    changed: tuple[int, int] | None = None
    harmed: bool = False
    helped: bool = False
    bound: float | None = None

    @property
    def spread(self) -> float:
        """Standard deviation of the damage of the compared groups."""
        return float(np.std(self.controls, ddof=1)) if len(self.controls) > 1 else 0.0


def z_score(delta: float, controls: Sequence[float], ddof: int = 1) -> float | None:
    r""":math:`(\delta - \bar c) / s_c`, with ``ddof`` degrees of freedom taken from the standard deviation.

    None where it is not defined: the controls are equal, or too few.
    """
    if len(controls) <= ddof or min(controls) == max(controls):
        return None  # compare the controls, not their deviation: rounding gives equal numbers a deviation of 1e-17
    spread = float(np.std(controls, ddof=ddof))
    return (delta - float(np.mean(controls))) / spread if spread > 0 else None


def p_value(delta: float, controls: Sequence[float], damage: int) -> float | None:
    r"""Permutation p-value, one-sided towards damage: :math:`(1 + \#\{d c_i \ge d \delta\}) / (1 + n)`.

    Never below ``1 / (1 + n)``: with five controls at least 0.17. None without controls.
    Source: Phipson & Smyth 2010.
    """
    if not controls:
        return None
    return (1 + exceedances(delta, controls, damage)) / (1 + len(controls))


def exceedances(delta: float, controls: Sequence[float], damage: int) -> int:
    """How many controls do at least as much damage."""
    refuse_nan(np.array([delta, *controls]))
    return int(sum(damage * control >= damage * delta for control in controls))


def inflated(controls: Sequence[float], factor: float) -> list[float]:
    """Controls spread about their mean by a factor; see :func:`harness.data.sampling.inflation`."""
    if factor == 1.0 or not controls:
        return list(controls)
    mean = float(np.mean(controls))
    return [mean + factor * (c - mean) if c != mean else c for c in controls]


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """q-values: for each p, the smallest false-discovery rate at which it counts as a discovery.

    Source: Benjamini & Hochberg 1995.
    """
    from scipy.stats import false_discovery_control

    return [float(q) for q in false_discovery_control(p_values)] if p_values else []


def bootstrap_means(
    deltas: Float[np.ndarray, "rows examples"], seed: int
) -> Float[np.ndarray, "rows resamples"] | None:
    """Mean of every row over examples drawn with replacement, the same for all rows. None with a single example."""
    n = deltas.shape[1]
    if n < 2:
        return None
    rng = rng_for(seed, "bootstrap")
    means = [np.take(deltas, rng.integers(n, size=(many, n)), axis=1).mean(axis=2) for many in portions(RESAMPLES, n)]
    return np.concatenate(means, axis=1)


def bootstrap_interval(deltas: Float[np.ndarray, " examples"], seed: int) -> tuple[float, float] | None:
    """95 % percentile interval of the mean over examples resampled with replacement. None with a single example.

    Deltas are paired (the same example with and without ablation), so that differences between examples cancel.
    Source: Efron & Tibshirani 1993, chapter 13.
    """
    means = bootstrap_means(deltas[None], seed)
    if means is None:
        return None
    low, high = np.percentile(means[0], [2.5, 97.5])
    return float(low), float(high)


def wilson_interval(passed: int, n: int) -> tuple[float, float]:
    """95 % interval of a proportion. Source: Wilson 1927."""
    from scipy.stats import binomtest

    interval = binomtest(passed, n).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def selection_p(best: float, null_best: Sequence[float], damage: int) -> float | None:
    """p of a candidate that was chosen on its test data: :func:`p_value` against the best groups on permuted data.

    ``null_best``: changes by the groups that the same pipeline chooses on permuted data. None if there are none.
    """
    return p_value(best, null_best, damage)


def portions(total: int, size: int) -> Iterator[int]:
    """Split ``total`` draws of ``size`` numbers each into portions of at most :data:`AT_ONCE` numbers (or one draw)."""
    most = max(1, AT_ONCE // size)
    for start in range(0, total, most):
        yield min(most, total - start)


def refuse_nan(*values: np.ndarray) -> None:
    """Any comparison with NaN is false, so a NaN would give the smallest possible p."""
    if any(np.isnan(value).any() for value in values):
        raise HarnessError(
            "a damage is NaN and cannot be compared.",
            "Find the example where the metric is NaN: subject.dtype=float32 may help.",
        )
