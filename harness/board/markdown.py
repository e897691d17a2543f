"""Boards as Markdown, for terminals and for GitHub."""

from __future__ import annotations

from collections.abc import Sequence

from harness.board.board import Board, Row
from harness.board.columns import METHOD, MOST_TASKS, RANK, explanation, nonempty, number, told, verdict
from harness.board.found import called, found, left_out, metric_tables
from harness.board.lineage import Lineage
from harness.board.task import Task
from harness.util.text import printable

DAMAGE = {1: "raises", -1: "lowers"}


def markdown(boards: Sequence[Board]) -> str:
    """All boards, with the meaning of their columns."""
    parts = ["# Leaderboard\n"]
    columns = nonempty(boards)
    for board in boards:
        parts.append(f"## Protocol {board.protocol}\n")
        parts.append(f"{plain(' · '.join(f'{key} {value}' for key, value in board.settings.items()))}\n")
        parts.append(f"Effect and q refer to {plain(board.metric)}; damage {DAMAGE[board.damage]} it.\n")
        parts.append("\n".join(f"- T{i}: {plain(called(task))}" for i, task in enumerate(board.tasks, 1)) + "\n")
        shown = _shown(board)
        heads = [RANK.head, METHOD.head, *(c.head for c in columns), *(f"T{i}" for i in range(1, len(shown) + 1))]
        rows = [
            [RANK.text(row), METHOD.text(row), *(column.text(row) for column in columns), *_on_tasks(row, shown)]
            for row in board.rows
        ]
        parts.append(table([heads, *rows]))
        parts += [] if shown else ["board.html has the verdict of each method on each task, and its command.\n"]
        parts.append(f"{plain(found(board))}\n")
        parts += [f"{plain(left_out(board))}\n"] if board.left_out else []
        parts += [_missing(row, len(board.tasks)) for row in board.rows if row.missing]
        parts.append(_compared(board))
        parts += [f"{plain(title)}\n\n{table(rows)}" for title, rows in metric_tables(board)]
    parts.append(
        "\n".join(f"- **{head}**: {text}" for head, text in explanation(columns, boards, any(map(_shown, boards))))
        + "\n"
    )
    return "\n".join(parts)


def lineage_section(boards: Sequence[Board], lineage: Lineage) -> str:
    """The commands that make the board and each of its cells, the versions used, and the digests of the records."""
    versions = ", ".join(f"{plain(name)} {plain(' / '.join(found))}" for name, found in lineage.lock.items())
    parts = ["\n## Lineage\n", _code([lineage.command, *lineage.sweeps]), f"{versions}\n"]
    if any(map(_shown, boards)):
        parts.append("## Command of each cell\n")
    for board in filter(_shown, boards):
        for row in board.rows:
            if row.results:
                parts.append(f"{plain(row.method)}:\n")
                parts.append(_code([result.command for result in row.results.values()]))
    parts.append("## Records (SHA-256)\n")
    parts.append(_code([f"{cell} {digest}" for cell, digest in lineage.records.items()]))
    return "\n".join(parts)


def plain(text: str) -> str:
    """Text with Markdown's special characters escaped: names in records may contain any character."""
    shown = printable(text)
    for special in ("\\", "`", "|"):
        shown = shown.replace(special, f"\\{special}")
    for after in "([:":  # a link, or the address of one
        shown = shown.replace(f"]{after}", f"]\\{after}")
    return shown.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _shown(board: Board) -> Sequence[Task]:
    return board.tasks if len(board.tasks) <= MOST_TASKS else ()


def _on_tasks(row: Row, tasks: Sequence[Task]) -> list[str]:
    results = [row.results.get(task.name) for task in tasks]
    return [told(f"{verdict(r)} {number(r.effect, '+.2f')}".strip(), row) if r else verdict(r) for r in results]


def table(rows: Sequence[Sequence[str]]) -> str:
    """An aligned table; the first row is its head."""
    escaped = [[plain(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in escaped) for column in range(len(escaped[0]))]
    padded = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in escaped]
    lines = ["| " + " | ".join(row) + " |" for row in padded]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines) + "\n"


def _missing(row: Row, tasks: int) -> str:
    by_reason: dict[str, list[str]] = {}
    for missing in row.missing:
        by_reason.setdefault(missing.reason, []).append(missing.task)
    reasons = "; ".join(f"{', '.join(names)} ({reason})" for reason, names in by_reason.items())
    commands = [missing.command for missing in row.missing if missing.command]
    text = f"- not ranked: {plain(row.method)}: {len(row.missing)} of {tasks} tasks missing: {plain(reasons)}\n"
    return text + (f"\n{_code(commands, '      ')}" if commands else "")


def _compared(board: Board) -> str:
    ranks = sorted(zip(board.comparison.mean_ranks, board.comparison.methods, strict=True))
    listed = "\n".join(f"- {rank:.2f} {plain(method)}" for rank, method in ranks)
    return f"{plain(board.comparison.summary)}\n" + (f"\nMean ranks (1: best):\n\n{listed}\n" if ranks else "")


def _code(lines: Sequence[str], indent: str = "    ") -> str:
    """Lines as an indented code block; a line break within a line would end it."""
    return "".join(f"{indent}{printable(line)}\n" for line in lines)
