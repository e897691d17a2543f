"""Known circuits on a card: their units, what was verified of them, and how well they were found."""

from __future__ import annotations

from collections.abc import Mapping

from harness.closure.verdict import spaced
from harness.data.units import named
from harness.records.record import Record


def known_lines(record: Record) -> list[str]:
    """At most three lines; none where no circuit is known."""
    subject = record.provenance.get("subject") or {}
    circuits, verified = subject.get("circuits"), subject.get("verified")
    if not record.known:
        return []
    lines = []
    if isinstance(circuits, Mapping):
        lines.append(f"  known circuits: {'; '.join(named(list(map(str, units))) for units in circuits.values())}")
    if isinstance(verified, Mapping):
        lines.append(f"  verified of this subject: {_figures(verified)}")
    return [*lines, f"  known circuits found: {_figures(record.known)}"]


def _figures(figures: Mapping[str, float]) -> str:
    numbers = ((name, value) for name, value in figures.items() if isinstance(value, float))
    return ", ".join(f"{spaced(name)} {value:z.2f}" for name, value in numbers)
