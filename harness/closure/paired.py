"""Two methods on the same examples: the difference of their damage, with its interval and p."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from harness.closure.intervals import mean_interval
from harness.closure.statistics import portions, refuse_nan
from harness.util.errors import HarnessError
from harness.util.seeds import rng_for

FLIPS = 9999
EXACT_UP_TO = 12
"""Up to this many examples all sign flips are tried."""


def excess(
    deltas: Float[np.ndarray, " examples"], control_deltas: Float[np.ndarray, "controls examples"]
) -> Float[np.ndarray, " examples"]:
    """By example, the candidate's change minus the mean change of its controls. Errors: no controls."""
    if not len(control_deltas):
        raise HarnessError("the excess over controls needs at least one control group.", "Use controls.n=1 or more.")
    difference: Float[np.ndarray, " examples"] = deltas - control_deltas.mean(axis=0)
    return difference


@dataclass(frozen=True)
class Difference:
    """Two methods on the same ``n`` examples: the mean of a - b, its 95 % interval (bootstrap-t), and the two-sided
    p."""

    n: int
    mean: float
    interval: tuple[float, float] | None
    p: float


def paired_difference(a: Float[np.ndarray, " examples"], b: Float[np.ndarray, " others"], seed: int) -> Difference:
    r"""Compare two methods by their difference on each example, with a sign-flip test.

    If they do not differ, each difference has either sign equally often: p is the share of sign flips whose mean is at
    least as far from 0. Up to 12 examples: all :math:`2^n` flips. More: 9999 random ones, and the data themselves.
    Errors: different numbers of examples, or none; NaN.
    Source: Fisher 1935; Phipson & Smyth 2010.
    """
    if len(a) != len(b) or not len(a):
        raise HarnessError(
            f"two methods were measured on {len(a)} and {len(b)} examples.", "Measure both on the same examples."
        )
    difference = a - b
    refuse_nan(difference)
    n, mean = len(difference), float(difference.mean())
    far = abs(mean) - 1e-12 * float(np.abs(difference).max())  # a flip with the same mean may be rounded differently
    as_far = sum(
        int((np.abs(np.where(flip, -difference, difference).mean(axis=1)) >= far).sum()) for flip in _flips(n, seed)
    )
    p = as_far / 2**n if n <= EXACT_UP_TO else (1 + as_far) / (1 + FLIPS)
    return Difference(n, mean, mean_interval(difference, seed), p)


def _flips(n: int, seed: int) -> Iterator[Bool[np.ndarray, "flips examples"]]:
    """Which examples change sign: all combinations up to :data:`EXACT_UP_TO` examples, else random ones."""
    if n <= EXACT_UP_TO:
        yield (np.arange(2**n)[:, None] >> np.arange(n) & 1).astype(bool)
        return
    rng = rng_for(seed, "sign flips")
    for many in portions(FLIPS, n):
        yield rng.integers(2, size=(many, n)).astype(bool)
