"""Self-contained pages of HTML: Jinja2 templates with scripts, styles and figures inside."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from markupsafe import Markup

from harness.board.board import Board
from harness.board.columns import (
    METHOD,
    MOST_TASKS,
    RANK,
    costs,
    details,
    explanation,
    nonempty,
    ordered,
    told,
    verdict,
)
from harness.board.found import called, found, left_out, metric_tables
from harness.board.lineage import Lineage
from harness.board.seal import Seal
from harness.closure.verdict import Verdict

if TYPE_CHECKING:
    from jinja2 import Environment

COLUMNS = re.compile(r" +\S(.* {3,}\S){2}")
"""A line of a card that is a row of a table: it is not wrapped."""
VERDICTS = [verdict.value for verdict in Verdict]


def page(boards: Sequence[Board], lineage: Lineage, seal: Seal | None = None) -> str:
    """All boards as one page whose tables sort and filter."""
    from harness.board.figures.board import mean_ranks, quality_and_cost

    columns = nonempty(boards)
    return (
        environment()
        .get_template("board.html")
        .render(
            boards=boards,
            lineage=lineage,
            seal=seal,
            columns=columns,
            rank=RANK,
            method=METHOD,
            explanation=explanation(columns, boards),
            told=told,
            called=called,
            most_tasks=MOST_TASKS,
            left_out=left_out,
            verdict=verdict,
            ordered=ordered,
            found=found,
            metric_tables=metric_tables,
            details=details,
            verdicts=VERDICTS,
            figures=[[mean_ranks(board), quality_and_cost(board)] for board in boards],
        )
    )


@cache
def environment() -> Environment:
    """The templates, with automatic escaping: names in records may contain any character."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    jinja = Environment(
        loader=PackageLoader("harness.board"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    jinja.globals["static"] = _static
    jinja.filters["costs"] = costs
    jinja.tests["columns"] = COLUMNS.match
    jinja.filters["spaced"] = lambda text: str(text).replace("_", " ")
    return jinja


def _static(name: str) -> Markup:
    """A packaged script or style, unchanged."""
    return Markup(files("harness.board").joinpath("static", name).read_text(encoding="utf-8"))
