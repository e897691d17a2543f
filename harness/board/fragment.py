"""Results inside another page, such as a notebook: a card with its figure, or a table of cells."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from harness.board.card import card
from harness.board.page import environment
from harness.data.grouping import Affinity
from harness.records.record import Record

DRAWN_UP_TO = 600
"""The affinity of more units is not drawn."""


def fragment(record: Record, affinity: Affinity | None = None) -> str:
    """A cell as an element: its card, then the effects of its candidates, or the affinity they were proposed from."""
    from harness.board.figures.report import cloud, ordered_affinity

    figures: list[Markup] = [cloud(closure) for closure in record.closure]
    if not figures and affinity is not None and record.partition and len(record.units) <= DRAWN_UP_TO:
        candidate = record.candidates[0].units if record.candidates else ()
        figures = [ordered_affinity(affinity, record.partition, candidate)]
    return environment().get_template("fragment.html").render(record=record, card=card(record), figures=figures)


def table(records: Sequence[Record]) -> str:
    """Cells as an element: a row each, with its verdicts, its method and its task."""
    return environment().get_template("fragment.html").render(records=records)
