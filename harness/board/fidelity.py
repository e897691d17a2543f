"""Decompositions at several penalties, with the groups proposed and tested on each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.board.figures.board import distinguishing_words
from harness.board.groups import decomposition_of, passed
from harness.board.score import Scores
from harness.records.record import FINISHED, Record
from harness.util.errors import HarnessError


@dataclass(frozen=True)
class Point:
    """One decomposition with one method. ``own``: the target's error on its own task, for comparison."""

    target: str
    method: str
    penalty: float
    frequency: float | None
    masked: float | None
    stochastic: float | None
    own: float | None
    l0: float | None
    alive: int
    exact: float | None
    F: float | None
    passed: tuple[int, int] | None

    @property
    def share(self) -> float | None:
        """The share of the tested groups that pass."""
        return self.passed[0] / self.passed[1] if self.passed else None


def points_of(records: Sequence[Record]) -> list[Point]:
    """The finished records of trained decompositions, by target, method and penalty. Errors: there are none."""
    chosen = [r for r in records if r.status in FINISHED and "minimality" in decomposition_of(r).get("penalty", {})]
    if not chosen:
        raise HarnessError(
            f"none of {len(records)} records is of a trained decomposition that says its penalty.",
            "Example: harness sweep experiment=spd_penalty && harness fidelity",
        )
    methods = distinguishing_words([record.cell.method for record in chosen])
    found = [_point(record, method or "") for record, method in zip(chosen, methods, strict=True)]
    return sorted(found, key=lambda point: (point.target, point.method, point.penalty))


def _point(record: Record, method: str) -> Point:
    about = decomposition_of(record)
    penalty = about["penalty"]
    counts = passed(record)
    return Point(
        target=record.cell.subject.removesuffix(" subcomponents"),
        method=method,
        penalty=penalty["minimality"],
        frequency=penalty.get("frequency"),
        masked=about.get("error masked"),
        stochastic=about.get("error stochastic"),
        own=about.get("error target"),
        l0=sum(value for name, value in about.items() if name.startswith("l0 ")) or None,
        alive=sum(about["alive"].values()),
        exact=about.get("exact"),
        F=Scores.of(record).known_circuits,
        passed=(counts[0], counts[1]) if counts else None,
    )
