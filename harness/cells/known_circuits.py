"""How well a method found known circuits: its scores, its candidates, and groups that it wrongly calls closed."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from jaxtyping import Bool, Float

from harness.closure.report import ClosureReport
from harness.closure.verdict import Verdict
from harness.data.contracts import Subject
from harness.proposal.proposal import Proposal
from harness.records.record import KNOWN

CLOSED = frozenset({Verdict.PASS, Verdict.WEAK_PASS})


def found_of_known(
    subject: Subject, proposals: Sequence[Proposal], reports: Sequence[ClosureReport]
) -> dict[str, dict[str, float]]:
    """The figures of a cell, under :data:`harness.records.record.KNOWN`. Empty where no circuits are known.

    A unit is in the truth if it is in any of the subject's circuits. ``auroc`` and ``average_precision``: of the
    signal's scores, higher is more, where the method has a signal. ``precision``, ``recall`` and ``f``: of the units in
    any candidate; precision is missing without a candidate. ``false_closure``: share closed (pass or weak pass) of the
    tested groups that share no unit with the truth; missing where there are none.
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
    return {KNOWN: {**scores, **units_found(proposed, truth), **false_closure(reports, truth)}}


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


def false_closure(reports: Sequence[ClosureReport], truth: Collection[str]) -> dict[str, float]:
    """The share of groups outside the truth that are called closed."""
    outside = [report.verdict in CLOSED for report in reports if not set(report.units) & set(truth)]
    return {"false_closure": sum(outside) / len(outside)} if outside else {}
