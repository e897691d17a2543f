"""Selectivity on boards: how far damage reaches beyond the stratum of a group, over the candidates of a row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from harness.board.score import mean
from harness.closure.selectivity import Damage, Selectivity
from harness.records.record import SELECTIVITY, Record


@dataclass(frozen=True)
class Selective:
    """``ratio``: mean over candidates of the worst off-target effect over the on-target effect (None: no candidate does
    damage on target). ``by_points``, ``by_intervals``: how many of the ``candidates`` are selective by each rule.
    """

    ratio: float | None
    by_points: int
    by_intervals: int
    candidates: int

    @classmethod
    def of(cls, record: Record) -> Selective | None:
        """That of a record's candidates; None where it does not hold their damage in other strata."""
        found = candidates_of(record)
        if not found:
            return None
        return cls(
            mean(each.ratio for each in found),
            sum(each.by_points for each in found),
            sum(each.by_intervals for each in found),
            len(found),
        )

    @classmethod
    def over(cls, several: Iterable[Selective | None]) -> Selective | None:
        """All candidates of several tasks or seeds together."""
        found = [each for each in several if each is not None]
        if not found:
            return None
        return cls(
            mean(each.ratio for each in found),
            sum(each.by_points for each in found),
            sum(each.by_intervals for each in found),
            sum(each.candidates for each in found),
        )

    @property
    def text(self) -> str:
        """The ratio and both counts."""
        ratio = "-" if self.ratio is None else f"{self.ratio:.2f}"
        return f"{ratio}; {self.by_points}/{self.candidates}, {self.by_intervals}/{self.candidates}"


def candidates_of(record: Record) -> list[Selectivity]:
    """The selectivity of every candidate that was tested inside its stratum; entries of another form are left out."""

    def damage(data: Mapping[str, Any]) -> Damage:
        return Damage(data["mean"], tuple(data["interval"]) if data["interval"] else None)

    found = []
    for entry in record.diagnostics.get(SELECTIVITY, {}).values():
        with suppress(KeyError, TypeError, AttributeError):  # a record that others sent may hold anything
            off = {name: damage(each) for name, each in entry["off"].items()}
            found.append(Selectivity(damage(entry["on"]), off, entry["null"]))
    return found
