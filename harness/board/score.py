"""How well one method did on one task: the known circuits it found, its damage beyond random groups, its size curve."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from harness.closure.report import ClosureReport
from harness.closure.verdict import Verdict, decision_order
from harness.records.record import Record

COUNTED = 3
"""How many candidates of a cell count towards ``beyond_random``: the first of the selector's order."""

UNTESTED = frozenset({Verdict.UNDERPOWERED, Verdict.TASK_NOT_DONE})
"""Verdicts on groups that could not be tested."""


@dataclass(frozen=True)
class Scores:
    """The scores of one method; a method that proposes nothing has 0 in the first two.

    ``known_circuits``: F of its candidates with the circuits of the subject (:func:`overlap`); None where no circuits
    are known. ``beyond_random``: mean of 1 - 2p over its candidates, about 0 for random groups and at most 1; None
    where circuits are known. ``size_curve``: :attr:`harness.closure.size_curve.SizeCurve.score`.
    """

    known_circuits: float | None
    beyond_random: float | None
    size_curve: float | None

    @classmethod
    def of(cls, record: Record) -> Scores:
        """The scores of a finished record."""
        circuits = known_circuits(record)
        curve = record.size_curve.score if record.size_curve else None
        if circuits:
            return cls(overlap([set(candidate.units) for candidate in record.candidates], circuits), None, curve)
        return cls(None, beyond_random(record.closure), curve)

    @classmethod
    def over(cls, several: Iterable[Scores]) -> Scores:
        """The means, of interventions, seeds or tasks; each over those that have the score."""
        each = list(several)
        return cls(
            mean(scores.known_circuits for scores in each),
            mean(scores.beyond_random for scores in each),
            mean(scores.size_curve for scores in each),
        )

    @property
    def ranked_by(self) -> float:
        """The score of a task that rows are ranked by: known circuits, or beyond random; 0 without either.

        Each is about 0 for random groups and 1 at best. The size curve is about the order of single units, not about
        groups, so it is shown and not ranked by.
        """
        return mean([self.known_circuits, self.beyond_random]) or 0.0


def known_circuits(record: Record) -> list[set[str]]:
    """The circuits that the subject is known to have, as labels of units; none for most trained models."""
    circuits: Mapping[str, Iterable[str]] = record.provenance.get("subject", {}).get("circuits") or {}
    return [set(units) for units in circuits.values()]


def overlap(candidates: Sequence[Collection[str]], circuits: Sequence[Collection[str]]) -> float:
    r"""How well candidates match circuits.

    .. math:: F = \frac{2 P R}{P + R}

    P: mean over candidates of their largest F1 with a circuit. R: mean over circuits of their largest F1 with a
    candidate. 0 without a candidate, or where nothing overlaps.
    """
    if not candidates or not circuits:
        return 0.0
    f1 = [[2 * len(set(a) & set(b)) / (len(a) + len(b)) for b in circuits] for a in candidates]
    precision = sum(map(max, f1)) / len(candidates)
    recall = sum(map(max, zip(*f1, strict=True))) / len(circuits)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def beyond_random(closures: Sequence[ClosureReport]) -> float:
    """Mean of 1 - 2p over the first ``COUNTED`` candidates. 0 without a candidate; one without a p counts as 0."""
    values = [0.0 if (p := p_of(closure)) is None else 1 - 2 * p for closure in closures[:COUNTED]]
    return sum(values) / len(values) if values else 0.0


def p_of(closure: ClosureReport) -> float | None:
    """p of the metric that decides first, before any correction for several tests.

    None where it is undefined or shows nothing: too few groups to compare with, or a task that the model does not do.
    """
    if closure.verdict in UNTESTED or not closure.effects:
        return None
    return closure.effects[decision_order(closure.effects)[0]].p


def mean(values: Iterable[float | None]) -> float | None:
    """The mean of the values that are not None; None if there are none."""
    numbers = [value for value in values if value is not None]
    return sum(numbers) / len(numbers) if numbers else None
