"""Boards as files: Markdown, CSV, JSON and one page of HTML, made of nothing but records."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.board.lineage import Made
from harness.board.markdown import markdown, source
from harness.board.table import Board, build
from harness.records.record import Record
from harness.records.workspace import Workspace, write_atomically

SCHEMA = "closure-harness/board/1"
NESTED = frozenset({"verdicts", "results", "missing", "cells"})
"""What does not fit a cell of a CSV as it is."""


def write_boards(workspace: Workspace, records: Iterable[Record] | None = None) -> tuple[list[Board], Path]:
    """Rebuild the boards of a workspace, ``boards/board.md`` and its like, from its records."""
    found = list(workspace.records() if records is None else records)
    folder = workspace.root / "boards"
    return write_files(folder, found, "harness leaderboard"), folder / "board.md"


def write_files(folder: Path, records: Sequence[Record], command: str) -> list[Board]:
    """Every file of the boards that these records make; ``command`` is what makes them again."""
    boards = build(records)
    for name, text in files(boards, Made.of(records, command)).items():
        write_atomically(folder / name, text)
    return boards


def files(boards: Sequence[Board], made: Made) -> dict[str, str]:
    """Every file of a board, by name."""
    from harness.board.page import page

    return {
        "board.md": markdown(boards) + source(boards, made),
        "board.csv": as_csv(boards),
        "cells.csv": cells_as_csv(boards),
        "board.json": as_json(boards, made),
        "board.html": page(boards, made),
    }


def as_json(boards: Sequence[Board], made: Made) -> str:
    """Everything there is to know of the boards, for programs."""
    data = {"schema": SCHEMA, "made": dataclasses.asdict(made), "boards": as_data(boards)}
    return json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def as_data(boards: Sequence[Board]) -> list[Any]:
    """The boards as plain values, figures to nine digits."""
    return [_rounded(dataclasses.asdict(board)) for board in boards]


def as_csv(boards: Sequence[Board]) -> str:
    """One line per row, figures to nine digits."""
    return _csv(
        {
            "protocol": board.protocol,
            "board": i,
            **_flat({k: v for k, v in vars(row).items() if k not in NESTED}),
            "missing": "; ".join(missing.task for missing in row.missing),
            "cells": " ".join(row.cells),
        }
        for i, board in enumerate(boards, 1)
        for row in board.rows
    )


def cells_as_csv(boards: Sequence[Board]) -> str:
    """One line per row and task, figures to nine digits."""
    return _csv(
        {
            "board": i,
            "method": row.method,
            "task": task,
            **_flat({k: v for k, v in vars(result).items() if k not in NESTED}),
            "verdicts": " ".join(result.verdicts),
        }
        for i, board in enumerate(boards, 1)
        for row in board.rows
        for task, result in row.results.items()
    )


def _rounded(value: Any) -> Any:
    """Numbers to nine digits: the last ones of a sum differ between machines, and a board is checked on others."""
    if isinstance(value, float):
        return float(f"{value:.9g}")
    if isinstance(value, Mapping):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list | tuple) else value


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Intervals as two columns, costs as one each."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if key.endswith("interval"):
            flat[f"{key}_low"], flat[f"{key}_high"] = value or (None, None)
        elif key == "cost":
            flat |= {f"cost_{what}": spent for what, spent in value.items()}
        else:
            flat[key] = value
    return flat


def _csv(lines: Iterable[Mapping[str, Any]]) -> str:
    rows = [_rounded(line) for line in lines]
    out = io.StringIO()
    writer = csv.DictWriter(out, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()
