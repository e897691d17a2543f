"""Boards as Markdown and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from harness.board.table import EXPLANATION, Board, Row, build
from harness.record import Record
from harness.workspace import Workspace, write_atomically

COLUMNS = (
    "rank",
    "method",
    "closures passed",
    "verdicts",
    "effect (target logit)",
    "q",
    "agreement",
    "stability",
    "s/cell",
)


def write_boards(workspace: Workspace, records: Iterable[Record] | None = None) -> tuple[list[Board], Path]:
    """Rebuild ``boards/board.md`` and ``board.csv`` from the records of a workspace."""
    boards = build(workspace.records() if records is None else records)
    path = workspace.root / "boards" / "board.md"
    write_atomically(path, markdown(boards))
    write_atomically(path.with_suffix(".csv"), as_csv(boards))
    return boards, path


def markdown(boards: Sequence[Board]) -> str:
    """All boards on one page, with what the columns mean."""
    parts = ["# Leaderboard\n"]
    for board in boards:
        parts.append(f"## Protocol {board.protocol}\n")
        parts.append("\n".join(f"- {task}" for task in board.tasks) + "\n")
        parts.append(_table([COLUMNS, *[cells(row) for row in board.rows]]))
        parts += [f"- {_missing(row)}\n" for row in board.rows if row.missing]
    parts.append(EXPLANATION + "\n")
    return "\n".join(parts)


def as_csv(boards: Sequence[Board]) -> str:
    """One line per row, figures unrounded."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        ["protocol", "rank", "method", "tests", "passed", "passed_low", "passed_high", "effect_target_logit",
         "effect_low", "effect_high", "q", "ari", "chosen_by_labels", "stability", "seconds_per_cell", "missing",
         "cells"]
    )  # fmt: skip
    for board in boards:
        for row in board.rows:
            low, high = row.effect_interval or ("", "")
            writer.writerow(
                [board.protocol, row.rank or "", row.method, row.tests, row.passed, *row.interval,
                 _blank(row.effect), low, high, _blank(row.q), _blank(row.agreement), row.label_chosen,
                 _blank(row.stability), row.seconds, "; ".join(row.missing), " ".join(row.cells)]
            )  # fmt: skip
    return out.getvalue()


def cells(row: Row) -> tuple[str, ...]:
    """A row as a person reads it, in the order of :data:`COLUMNS`."""
    effect = "" if row.effect is None else f"{row.effect:+.2f}"
    if row.effect_interval:
        effect += f" [{row.effect_interval[0]:+.2f}, {row.effect_interval[1]:+.2f}]"
    return (
        str(row.rank) if row.rank else "-",
        row.method,
        f"{row.passed}/{row.tests} [{row.interval[0]:.2f}, {row.interval[1]:.2f}]" if row.tests else "0/0",
        ", ".join(f"{n} {verdict}" for verdict, n in row.verdicts.items()),
        effect,
        "" if row.q is None else f"{row.q:.3f}",
        "" if row.agreement is None else f"{row.agreement:.2f}{'*' if row.label_chosen else ''}",
        "" if row.stability is None else f"{row.stability:.2f}",
        f"{row.seconds:.1f}",
    )


def _table(rows: Sequence[Sequence[str]]) -> str:
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in escaped) for column in range(len(escaped[0]))]
    padded = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in escaped]
    lines = ["| " + " | ".join(row) + " |" for row in padded]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines) + "\n"


def _missing(row: Row) -> str:
    return f"not ranked: {row.method}: {len(row.missing)} task(s) missing: {'; '.join(row.missing)}"


def _blank(value: float | None) -> float | str:
    return "" if value is None else value
