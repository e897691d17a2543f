"""Ranks, intervals of means over tasks, which methods differ, and which are Pareto-optimal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from harness.closure.statistics import RESAMPLES
from harness.util.seeds import rng_for

ALPHA = 0.05


@dataclass(frozen=True)
class Comparison:
    """Whether methods differ over tasks: mean rank of each (1: best), Friedman's p, Nemenyi's critical difference.

    Two methods differ if their mean ranks differ by more than ``critical_difference``. Where there is no comparison,
    ``reason`` says why and the other fields are empty.
    """

    methods: tuple[str, ...] = ()
    mean_ranks: tuple[float, ...] = ()
    tasks: int = 0
    p: float | None = None
    critical_difference: float | None = None
    reason: str = ""

    @property
    def summary(self) -> str:
        """The comparison in words."""
        if self.reason:
            return f"No critical difference: {self.reason}."
        return (
            f"Friedman test over {self.tasks} tasks: p = {self.p:.3g}. Two methods differ if their mean ranks differ "
            f"by more than {self.critical_difference:.2f} (Nemenyi, 5 %). Methods are ranked within each task by "
            "their score."
        )


def mean_interval(values: Float[np.ndarray, " tasks"], errors: Float[np.ndarray, " tasks"]) -> tuple[float, float]:
    """95 % interval of a mean over tasks, by bootstrap over tasks and, within each, over its examples.

    Tasks are drawn with replacement. Each draw of a task adds a normal deviate with the task's standard error, for its
    examples. With a single task only the examples vary. Source: Efron & Tibshirani 1993, chapter 8 (two levels).
    """
    rng = rng_for(0, "board intervals")
    drawn = rng.integers(len(values), size=(RESAMPLES, len(values)))
    means = (values[drawn] + errors[drawn] * rng.standard_normal(drawn.shape)).mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def competition_ranks(scores: Float[np.ndarray, "*draws rows"]) -> Int[np.ndarray, "*draws rows"]:
    """1 + the number of rows with a higher score: equal scores share a rank."""
    ranks: Int[np.ndarray, "*draws rows"] = 1 + (scores[..., None, :] > scores[..., :, None]).sum(axis=-1)
    return ranks


def compare_ranks(methods: Sequence[str], scores: Float[np.ndarray, "rows tasks"]) -> Comparison:
    r"""Friedman's test of all rows, ranked within each task, and Nemenyi's critical difference.

    .. math:: CD = q_\alpha \sqrt{\frac{k (k + 1)}{6 N}}

    for k rows on N tasks, :math:`q_\alpha` the Studentized range over :math:`\sqrt 2`, at the 5 % level.
    ``scores``: higher is better. No comparison with fewer than three rows, or with
    so few tasks that a row that is always first and one that is always last differ by less than CD.
    Source: Demšar 2006 (statistical comparisons of classifiers over multiple data sets).
    """
    from scipy.stats import friedmanchisquare, rankdata, studentized_range

    k, n = scores.shape
    if k < 3:
        return Comparison(reason=f"comparing methods needs at least 3 complete rows; this board has {k}")
    q = float(studentized_range.ppf(1 - ALPHA, k, math.inf)) / math.sqrt(2)
    needed = math.ceil(q**2 * k * (k + 1) / (6 * (k - 1) ** 2))
    if n < needed:
        return Comparison(reason=f"comparing {k} methods needs at least {needed} tasks; this board has {n}")
    ranks = rankdata(-scores, axis=0)
    identical = bool((ranks == ranks[0]).all())  # nothing to test: the statistic is 0 / 0
    return Comparison(
        methods=tuple(methods),
        mean_ranks=tuple(float(mean) for mean in ranks.mean(axis=1)),
        tasks=n,
        p=1.0 if identical else float(friedmanchisquare(*ranks).pvalue),
        critical_difference=q * math.sqrt(k * (k + 1) / (6 * n)),
    )


def pareto_optimal(points: Sequence[tuple[float, float]]) -> list[bool]:
    """For each (score, cost): whether no other point is at least as good in both, and better in one."""
    return [not any(s >= score and c <= cost and (s, c) != (score, cost) for s, c in points) for score, cost in points]
