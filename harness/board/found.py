"""What a board shows, in sentences that are computed from its figures."""

from __future__ import annotations

from collections.abc import Sequence

from harness.board.board import Board, Row
from harness.board.columns import ranged
from harness.board.references import Kind
from harness.board.task import Task


def found(board: Board) -> str:
    """What was found on known circuits and on other tasks, and how many groups of methods the ranks tell apart."""
    methods = [row for row in board.rows if row.kind is Kind.METHOD and row.complete]
    if not methods:
        return "Found: nothing yet, no method has a result on every task."
    parts = [_known_circuits(board, methods), _other_tasks(board, methods), _ranks(methods)]
    return "Found: " + " ".join(part for part in parts if part)


def called(task: Task) -> str:
    """A task's name, and the other names that records have for the same content."""
    return f"{task.name} (also called {', '.join(task.also)})" if task.also else task.name


def left_out(board: Board) -> str:
    """Which records of the board's methods it does not show."""
    cells = ", ".join(board.left_out)
    return f"Left out: {len(board.left_out)} records with a newer one of the same method, task and seed ({cells})."


def metric_tables(board: Board) -> list[tuple[str, list[list[str]]]]:
    """How metrics go together over the tests of a board, and the loss per logit of each subject: titles and tables.

    The first row of a table is its head. A table without rows is left out.
    """
    named = [
        (
            "Rank correlation of damages to two metrics, over the distinct groups tested (Spearman).",
            ["metrics", "correlation", "groups"],
            [[" and ".join(c.metrics).replace("_", " "), _or_dash(c.rho), str(c.groups)] for c in board.correlations],
        ),
        (
            "Change of the loss per logit that the target gains, over the distinct groups tested (least squares "
            "through the origin). Near 0: the model makes up for a lost logit.",
            ["subject", "loss per logit", "groups"],
            [[each.subject, f"{each.slope:+.2f}", str(each.groups)] for each in board.losses_per_logit],
        ),
    ]
    return [(title, [head, *rows]) for title, head, rows in named if rows]


def _or_dash(value: float | None) -> str:
    return "-" if value is None else f"{value:+.2f}"


def separated(intervals: Sequence[tuple[int, int]]) -> int:
    """The largest number of intervals of which no two overlap: by earliest end, each that begins after the last."""
    count, last = 0, 0
    for low, high in sorted(intervals, key=lambda interval: interval[1]):
        if low > last:
            count, last = count + 1, high
    return count


def _known_circuits(board: Board, methods: Sequence[Row]) -> str:
    """The best method, the references beside it, and whether the best method is told from the best baseline."""
    best = _best(methods)
    if best is None:
        return ""
    half = sum((row.scores.known_circuits or 0) > 0.5 for row in methods)
    text = (
        f"on known circuits, {half} of {len(methods)} methods have F above .50. The best is {best.method}: F "
        f"{_with_interval(best)}."
    )
    beside = {kind: _best([row for row in board.rows if row.kind is kind and row.complete]) for kind in _BESIDE}
    told = [f"{row.method} {_with_interval(row)}" for row in beside.values() if row is not None]
    if told:
        text += f" Beside it: {'; '.join(told)}."
    baseline = beside[Kind.BASELINE]
    if baseline is not None and best.known_circuits_interval and baseline.known_circuits_interval:
        apart = best.known_circuits_interval[0] > baseline.known_circuits_interval[1]
        text += f" The intervals of the best method and the best baseline {'do not overlap' if apart else 'overlap'}."
    return text


_BESIDE = (Kind.BASELINE, Kind.SUPERVISED, Kind.CEILING)


def _best(rows: Sequence[Row]) -> Row | None:
    return max(
        (row for row in rows if row.scores.known_circuits is not None),
        key=lambda row: row.scores.known_circuits or 0,
        default=None,
    )


def _with_interval(row: Row) -> str:
    return ranged(row.scores.known_circuits, row.known_circuits_interval, ".2f")


def _other_tasks(board: Board, methods: Sequence[Row]) -> str:
    if not board.groups:
        return ""
    proposers = sum(row.discoveries > 0 for row in methods)
    named = f", proposed by {proposers} of {len(methods)} methods" if board.discoveries else ""
    return (
        f"{board.discoveries} of {board.groups} distinct groups do more damage than random groups at a false discovery "
        f"rate of {board.level:g}{named}."
    )


def _ranks(methods: Sequence[Row]) -> str:
    intervals = [row.rank_interval for row in methods if row.rank_interval is not None]
    if not intervals:
        return f"None of {len(methods)} methods passed a test, so none has a rank."
    if len(intervals) == 1:
        return f"One of {len(methods)} methods passed a test: it alone has a rank."
    several = separated(intervals)
    if several == 1:
        return f"Rank intervals do not tell any two of the {len(intervals)} ranked methods apart."
    return f"Rank intervals separate {several} groups among {len(intervals)} ranked methods."
