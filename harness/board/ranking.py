"""What a ranking is worth: what other tasks would make of it, which rows differ at all, and which pay."""

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
    """Whether rows differ over tasks: mean rank of each (1: best), Friedman's p, Nemenyi's critical difference.

    Two rows differ where their mean ranks are further apart than ``critical_difference``. ``reason`` says why there is
    no such comparison, and then all else is empty.
    """

    methods: tuple[str, ...] = ()
    mean_ranks: tuple[float, ...] = ()
    tasks: int = 0
    p: float | None = None
    critical_difference: float | None = None
    reason: str = ""


def mean_interval(values: Float[np.ndarray, " tasks"], errors: Float[np.ndarray, " tasks"]) -> tuple[float, float]:
    """95 % interval of a mean over tasks, by bootstrap over tasks and, within each, over its examples.

    Tasks are drawn with replacement; for its examples, each draw of a task is moved by a normal of that task's standard
    error. Of a single task only the examples vary. Source: Efron & Tibshirani 1993, chapter 8 (two levels).
    """
    rng = rng_for(0, "board intervals")
    drawn = rng.integers(len(values), size=(RESAMPLES, len(values)))
    means = (values[drawn] + errors[drawn] * rng.standard_normal(drawn.shape)).mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def competition_ranks(scores: Float[np.ndarray, "*draws rows"]) -> Int[np.ndarray, "*draws rows"]:
    """1 + the number of rows with a higher score, so that equal scores share a rank and the next one counts them."""
    ranks: Int[np.ndarray, "*draws rows"] = 1 + (scores[..., None, :] > scores[..., :, None]).sum(axis=-1)
    return ranks


def rank_intervals(scores: Float[np.ndarray, "rows tasks"]) -> list[tuple[int, int] | None]:
    """Ranks that 95 % of boards give each row whose tasks are drawn again with replacement; None with one task."""
    rows, tasks = scores.shape
    if tasks < 2:
        return [None] * rows
    drawn = rng_for(0, "board ranks").integers(tasks, size=(RESAMPLES, tasks))
    ranks = competition_ranks(scores[:, drawn].mean(axis=-1).round(12).T)
    low, high = np.percentile(ranks, [2.5, 97.5], axis=0, method="inverted_cdf")
    return [(int(a), int(b)) for a, b in zip(low, high, strict=True)]


def compare(methods: Sequence[str], standing: Float[np.ndarray, "rows tasks"]) -> Comparison:
    r"""Friedman's test of all rows, ranked within each task, and Nemenyi's critical difference.

    .. math:: CD = q_\alpha \sqrt{\frac{k (k + 1)}{6 N}}

    for k rows on N tasks, :math:`q_\alpha` the Studentized range over :math:`\sqrt 2`, at the 5 % level.
    ``standing``: higher is better; ``-inf`` where nothing was proposed. Said instead: that there are fewer than three
    rows, or too few tasks for a row that is always first to be told from one that is always last.
    Source: Demšar 2006 (statistical comparisons of classifiers over multiple data sets).
    """
    from scipy.stats import friedmanchisquare, rankdata, studentized_range

    k, n = standing.shape
    if k < 3:
        return Comparison(reason=f"{k} complete row{'s' * (k != 1)}: three are needed to compare ranks")
    q = float(studentized_range.ppf(1 - ALPHA, k, math.inf)) / math.sqrt(2)
    needed = math.ceil(q**2 * k * (k + 1) / (6 * (k - 1) ** 2))
    if n < needed:
        return Comparison(
            reason=f"{n} task{'s' * (n != 1)}: with {k} rows, one that is always first is told from one that is always "
            f"last by {needed} or more"
        )
    ranks = rankdata(-standing, axis=0)
    alike = bool((ranks == ranks[0]).all())  # nothing to test: the statistic is 0 / 0
    return Comparison(
        methods=tuple(methods),
        mean_ranks=tuple(float(mean) for mean in ranks.mean(axis=1)),
        tasks=n,
        p=1.0 if alike else float(friedmanchisquare(*ranks).pvalue),
        critical_difference=q * math.sqrt(k * (k + 1) / (6 * n)),
    )


def frontier(points: Sequence[tuple[float, float]]) -> list[bool]:
    """Of (score, cost): whether nothing else is at least as good and as cheap, and better in one of the two."""
    return [not any(s >= score and c <= cost and (s, c) != (score, cost) for s, c in points) for score, cost in points]
