"""Which tested groups are discoveries: Benjamini-Hochberg over the distinct groups of a board."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.board.references import Kind, kind_of
from harness.board.score import p_of
from harness.board.task import seed_of, task_digest
from harness.closure.report import ClosureReport
from harness.closure.statistics import benjamini_hochberg
from harness.records.record import FINISHED, Record

Test = tuple[str, int, str, frozenset[str]]
"""Task (subject, batch, intervention), seed, stratum and units: whoever proposes these units, it is the same test."""


@dataclass(frozen=True)
class Discoveries:
    """The q-value of every distinct group that a method of the board proposed; those of references are left out.

    A group is a discovery if its q is at most ``alpha``, the level of the board's protocol.
    """

    q: Mapping[Test, float]
    alpha: float

    @classmethod
    def of(cls, records: Sequence[Record]) -> Discoveries:
        """The q-values, from p before any correction. If methods have different p for a group, the largest counts."""
        p_values: dict[Test, float] = {}
        for test, closure in distinct_tests([r for r in records if kind_of(r.config) is Kind.METHOD]):
            if (p := p_of(closure)) is not None:
                p_values[test] = max(p, p_values.get(test, 0.0))
        q_values = benjamini_hochberg(list(p_values.values()))
        alpha = min((float(record.config.get("alpha", 0.05)) for record in records), default=0.05)
        return cls(dict(zip(p_values, q_values, strict=True)), alpha)

    def q_of(self, record: Record) -> list[float]:
        """The q-values of a record's candidates, where they are defined. None for references."""
        if kind_of(record.config) is not Kind.METHOD:
            return []
        return [self.q[test] for test, _ in distinct_tests([record]) if test in self.q]

    @property
    def found(self) -> int:
        """How many distinct groups are discoveries."""
        return sum(q <= self.alpha for q in self.q.values())


def distinct_tests(records: Sequence[Record]) -> list[tuple[Test, ClosureReport]]:
    """Every candidate of the finished records, with the test that it is."""
    return [
        ((task_digest(record), seed_of(record), closure.stratum, frozenset(closure.units)), closure)
        for record in records
        if record.status in FINISHED
        for closure in record.closure
    ]
