"""How far a candidate's damage stands out from its controls', and how sure that is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from harness.util.errors import HarnessError
from harness.util.seeds import rng_for

RESAMPLES = 1999
FLIPS = 9999
EXACT_UP_TO = 12
"""With as many examples, or fewer, all sign flips are tried."""
AT_ONCE = 1 << 14
"""Numbers drawn at once: resampling stays inside the processor's cache, whatever the number of examples."""


@dataclass(frozen=True)
class Effect:
    """What ablation did to one metric.

    ``baseline``, ``ablated``: means over examples; ``delta``: their difference; ``controls``: the same difference for
    each control group; ``z``: delta in standard deviations of the controls, in the metric's own direction (None with
    fewer than two controls, or where they do not differ); ``p``: permutation p-value in the damage direction (None
    without controls); ``p_adjusted``: corrected for the metrics tested together; ``interval``: 95 % interval of delta
    over examples (None with a single example); ``damage``: the sign of a change for the worse; ``saturated``: the
    baseline is already as bad as can be.
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
    return (1 + exceedances(delta, controls, damage)) / (1 + len(controls))


def exceedances(delta: float, controls: Sequence[float], damage: int) -> int:
    """How many controls do at least as much damage."""
    _refuse_nan(np.array([delta, *controls]))
    return int(sum(damage * control >= damage * delta for control in controls))


def inflated(controls: Sequence[float], factor: float) -> list[float]:
    """Controls about their mean, as far apart as random groups are; see :func:`harness.data.sampling.inflation`."""
    if factor == 1.0 or not controls:
        return list(controls)
    mean = float(np.mean(controls))
    return [mean + factor * (c - mean) if c != mean else c for c in controls]


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


def bootstrap_means(
    deltas: Float[np.ndarray, "rows examples"], seed: int
) -> Float[np.ndarray, "rows resamples"] | None:
    """Mean of every row over examples drawn with replacement, the same ones for all rows; None with one example."""
    n = deltas.shape[1]
    if n < 2:
        return None
    rng = rng_for(seed, "bootstrap")
    means = [np.take(deltas, rng.integers(n, size=(many, n)), axis=1).mean(axis=2) for many in _portions(RESAMPLES, n)]
    return np.concatenate(means, axis=1)


def bootstrap_interval(deltas: Float[np.ndarray, " examples"], seed: int) -> tuple[float, float] | None:
    """95 % percentile interval of the mean, examples resampled with replacement; None with a single example.

    Deltas are paired (the same example with and without ablation), so differences between examples cancel.
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


def excess(
    deltas: Float[np.ndarray, " examples"], control_deltas: Float[np.ndarray, "controls examples"]
) -> Float[np.ndarray, " examples"]:
    """Per example, what the candidate does beyond the mean of its controls."""
    if not len(control_deltas):
        raise HarnessError("the excess over controls is asked for, and there are none.", "Give at least one control.")
    beyond: Float[np.ndarray, " examples"] = deltas - control_deltas.mean(axis=0)
    return beyond


@dataclass(frozen=True)
class Difference:
    """Two methods on the same ``n`` examples: the mean of a - b, its 95 % interval, and p that it is 0 (two-sided)."""

    n: int
    mean: float
    interval: tuple[float, float] | None
    p: float


def paired_difference(a: Float[np.ndarray, " examples"], b: Float[np.ndarray, " others"], seed: int) -> Difference:
    r"""Compare two methods example by example.

    Were they alike, each difference might as well have the other sign: p is the share of sign flips whose mean is as
    far from 0. All :math:`2^n` flips up to 12 examples; else 9999 random ones, and the data themselves as one more.
    Source: Fisher 1935; Phipson & Smyth 2010.
    """
    if len(a) != len(b) or not len(a):
        raise HarnessError(
            f"two methods are compared on {len(a)} and {len(b)} examples.", "Measure both on the same examples."
        )
    difference = a - b
    _refuse_nan(difference)
    n, mean = len(difference), float(difference.mean())
    far = abs(mean) - 1e-12 * float(np.abs(difference).max())  # a flip that gives the same mean may round otherwise
    as_far = sum(
        int((np.abs(np.where(flip, -difference, difference).mean(axis=1)) >= far).sum()) for flip in _flips(n, seed)
    )
    p = as_far / 2**n if n <= EXACT_UP_TO else (1 + as_far) / (1 + FLIPS)
    return Difference(n, mean, bootstrap_interval(difference, seed), p)


def max_t(damage: Float[np.ndarray, " tests"], controls: Float[np.ndarray, "tests controls"]) -> tuple[float, ...]:
    r"""p-values corrected for being the worst of several tests, whatever the tests have to do with each other.

    .. math:: p_i = \frac{1 + \#\{c : \max_j t_{jc} \ge t_i\}}{1 + n}

    t is damage in standard deviations of its test, mean and deviation taken over the controls *and* the candidate: only
    then does a candidate that is one of them have the same t as they do. Column ``c`` of ``controls`` is one draw of
    everything, as the candidates are: the same group for the metrics of one candidate, a group of its own for each
    candidate. Where one group stands for several candidates, the worst of many is held against one: p is too small, and
    still too small where the columns are made of the same few groups in other places.

    Input: changes times the sign of a change for the worse. Output: one p per test, at least 1 / (1 + n).
    Source: Westfall & Young 1993, single-step max-T.
    """
    _refuse_nan(damage, controls)
    if not controls.size:
        raise HarnessError("tests are corrected against controls, and there are none.", "Give at least one control.")
    draws = np.column_stack([damage, controls])
    varies = draws.min(axis=1) < draws.max(axis=1)
    t = np.zeros_like(draws)  # where nothing varies the candidate ties with every control
    t[varies] = draws[varies] - draws[varies].mean(axis=1, keepdims=True)
    t[varies] /= draws[varies].std(axis=1, keepdims=True)
    worst = t[:, 1:].max(axis=0)
    return tuple(float((1 + (worst >= mine).sum()) / (1 + controls.shape[1])) for mine in t[:, 0])


def selection_p(best: float, null_best: Sequence[float], damage: int) -> float | None:
    """p of a candidate that was chosen on the data it is tested on: :func:`p_value` against the best of the same
    pipeline on permuted data, which was chosen there. None without such data.
    """
    return p_value(best, null_best, damage)


def _portions(total: int, size: int) -> Iterator[int]:
    """``total`` draws of ``size`` numbers each, in portions of at most :data:`AT_ONCE` numbers (or one draw)."""
    most = max(1, AT_ONCE // size)
    for start in range(0, total, most):
        yield min(most, total - start)


def _flips(n: int, seed: int) -> Iterator[Bool[np.ndarray, "flips examples"]]:
    """Which examples change sign: every way there is where they are few, else random ones."""
    if n <= EXACT_UP_TO:
        yield (np.arange(2**n)[:, None] >> np.arange(n) & 1).astype(bool)
        return
    rng = rng_for(seed, "sign flips")
    for many in _portions(FLIPS, n):
        yield rng.integers(2, size=(many, n)).astype(bool)


def _refuse_nan(*values: np.ndarray) -> None:
    """NaN compares as smaller than everything: it would leave the smallest p there is."""
    if any(np.isnan(value).any() for value in values):
        raise HarnessError(
            "a damage is NaN: it cannot be compared.", "Look for the example where the metric is not a number."
        )
