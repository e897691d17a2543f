"""How well a method found known circuits: its scores, its candidates, and groups that it wrongly calls closed."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from harness.closure.report import ClosureReport
from harness.closure.verdict import Verdict
from harness.data.contracts import Subject
from harness.proposal.proposal import Proposal
from harness.records.record import KNOWN
from harness.util.seeds import rng_for

PERMUTATIONS = 99
CLOSED = frozenset({Verdict.PASS, Verdict.WEAK_PASS})


def found_of_known(
    subject: Subject, proposals: Sequence[Proposal], reports: Sequence[ClosureReport]
) -> dict[str, dict[str, float]]:
    """The figures of a cell, under :data:`harness.records.record.KNOWN`. Empty where no circuits are known.

    A unit is in the truth if it is in any of the subject's circuits. ``auroc`` and ``average_precision``: of the
    signal's scores, higher is more, where the method has a signal. ``precision``, ``recall`` and ``f``: of the units in
    any candidate; precision is missing without a candidate. ``false_closure``: share closed (pass or weak pass) of the
    tested groups that share no unit with the truth; missing where there are none. ``jaccard``: of the group of any
    partition that is most like a circuit, a candidate or not, as a mean over circuits; ``jaccard_null``: the same where
    circuits are as many units drawn at random.
    """
    circuits = subject.about.get("circuits") or {}
    truth = {unit for units in circuits.values() for unit in units}
    in_truth = np.array([label in truth for label in subject.units.labels])
    if not in_truth.any() or in_truth.all():
        return {}
    first = proposals[0]
    scores = scores_found(first.scores.values, in_truth) if first.has("measured") else {}
    proposed = {
        subject.units.labels[unit] for p in proposals for candidate in p.candidates for unit in candidate.members
    }
    members = np.array([[label in units for label in subject.units.labels] for units in circuits.values()])
    partitions = [partition.labels for p in proposals for partition in p.raw_partitions]
    return {
        KNOWN: {
            **scores,
            **units_found(proposed, truth),
            **false_closure(reports, truth),
            **partitions_found(partitions, members),
        }
    }


def scores_found(values: Float[np.ndarray, " units"], in_truth: Bool[np.ndarray, " units"]) -> dict[str, float]:
    """Area under the ROC curve and average precision of one score per unit."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    return {
        "auroc": float(roc_auc_score(in_truth, values)),
        "average_precision": float(average_precision_score(in_truth, values)),
    }


def units_found(proposed: Collection[str], truth: Collection[str]) -> dict[str, float]:
    """Precision, recall and F of a set of units."""
    both = len(set(proposed) & set(truth))
    precision = {"precision": both / len(proposed)} if proposed else {}
    return {**precision, "recall": both / len(truth), "f": 2 * both / (len(proposed) + len(truth))}


def partitions_found(
    partitions: Sequence[Int[np.ndarray, " units"]], circuits: Bool[np.ndarray, "circuits units"]
) -> dict[str, float]:
    """The largest Jaccard index of any group with a circuit, mean over circuits, and its mean over permutations.

    Many partitions of few units hold a group like any set of units: read the first figure beside the second.
    """
    rng = rng_for(0, "known circuits, permutation null")
    drawn = [circuits[:, rng.permutation(circuits.shape[1])] for _ in range(PERMUTATIONS)]
    return {
        "jaccard": best_jaccard(partitions, circuits),
        "jaccard_null": float(np.mean([best_jaccard(partitions, each) for each in drawn])),
    }


def best_jaccard(
    partitions: Sequence[Int[np.ndarray, " units"]], circuits: Bool[np.ndarray, "circuits units"]
) -> float:
    """Mean over circuits of the largest Jaccard index with a group of a partition; 0 without a group."""
    best = np.zeros(len(circuits))
    for labels in partitions:
        grouped = labels[labels >= 0]
        if not len(grouped):
            continue
        sizes = np.bincount(grouped)
        for at, circuit in enumerate(circuits):
            shared = np.bincount(grouped, weights=circuit[labels >= 0], minlength=len(sizes))
            best[at] = max(best[at], (shared / (sizes + circuit.sum() - shared)).max())
    return float(best.mean())


def false_closure(reports: Sequence[ClosureReport], truth: Collection[str]) -> dict[str, float]:
    """The share of groups outside the truth that are called closed."""
    outside = [report.verdict in CLOSED for report in reports if not set(report.units) & set(truth)]
    return {"false_closure": sum(outside) / len(outside)} if outside else {}
