"""How the metrics of a board go together over its tests, and what a logit is worth to each model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from harness.board.discoveries import distinct_tests
from harness.board.task import distinct, subject_digest
from harness.records.record import Record

LOGIT, LOSS = "target_logit", "loss"


@dataclass(frozen=True)
class Correlation:
    """Spearman's rank correlation of the damage to two metrics, over ``groups`` distinct groups of all tasks.

    None where a metric has the same damage in all of them.
    """

    metrics: tuple[str, str]
    rho: float | None
    groups: int


@dataclass(frozen=True)
class LossPerLogit:
    r"""Change of the loss for each logit that the target gains, in one model: near 0 where later layers make up for it.

    .. math:: \text{slope} = \sum \Delta\text{logit} \, \Delta\text{loss} / \sum \Delta\text{logit}^2

    over ``groups`` distinct tested groups: the least-squares line through the origin.
    """

    subject: str
    slope: float
    groups: int


def correlations(records: Sequence[Record]) -> tuple[Correlation, ...]:
    """Every pair of metrics that at least three distinct groups were tested on."""
    from scipy.stats import spearmanr

    tests = [closure.effects for closure in dict(distinct_tests(records)).values()]
    names = list(dict.fromkeys(name for effects in tests for name in effects))
    found = []
    for pair in combinations(names, 2):
        both = [[effects[name] for name in pair] for effects in tests if effects.keys() >= set(pair)]
        if len(both) >= 3:
            first, second = np.array([[e.damage * e.delta for e in effects] for effects in both]).T
            varies = np.ptp(first) > 0 and np.ptp(second) > 0
            found.append(Correlation(pair, float(spearmanr(first, second).statistic) if varies else None, len(both)))
    return tuple(found)


def losses_per_logit(records: Sequence[Record]) -> tuple[LossPerLogit, ...]:
    """The slope of every subject whose tests report the target logit and the loss."""
    by_subject: dict[str, list[Record]] = {}
    for record in records:
        by_subject.setdefault(subject_digest(record), []).append(record)
    names = distinct({key: [record.cell.subject for record in each] for key, each in by_subject.items()})
    found = []
    for key, subject in sorted(names.items(), key=lambda named: named[1]):
        tests = dict(distinct_tests(by_subject[key]))
        effects = [closure.effects for closure in tests.values() if closure.effects.keys() >= {LOGIT, LOSS}]
        logit, loss = (np.array([each[name].delta for each in effects]) for name in (LOGIT, LOSS))
        if logit.any():
            found.append(LossPerLogit(subject, float(logit @ loss / (logit @ logit)), len(effects)))
    return tuple(found)
