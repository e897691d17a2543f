"""Pages of HTML that need nothing else: Jinja2 templates, with scripts, styles and figures inside."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from markupsafe import Markup

from harness.board.columns import METHOD, RANK, explanation, shown, spent, told, verdict
from harness.board.lineage import Made
from harness.board.table import Board
from harness.closure.verdict import Verdict

if TYPE_CHECKING:
    from jinja2 import Environment

VERDICTS = [verdict.value for verdict in Verdict]


def page(boards: Sequence[Board], made: Made) -> str:
    """All boards as one page that sorts and filters."""
    from harness.board.figures.board import quality_and_cost, told_apart

    columns = shown(boards)
    return (
        environment()
        .get_template("board.html")
        .render(
            boards=boards,
            made=made,
            columns=columns,
            rank=RANK,
            method=METHOD,
            explanation=explanation(columns),
            verdict=verdict,
            told=told,
            verdicts=VERDICTS,
            figures=[[told_apart(board), quality_and_cost(board)] for board in boards],
        )
    )


@cache
def environment() -> Environment:
    """Templates in which everything that is not marked as safe is escaped: names in records are anybody's."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader("harness.board"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals["static"] = _static
    made.filters["spent"] = spent
    made.filters["spaced"] = lambda text: str(text).replace("_", " ")
    return made


def _static(name: str) -> Markup:
    """A packaged script or style, as it is."""
    return Markup(files("harness.board").joinpath("static", name).read_text(encoding="utf-8"))
