"""Boards as files: Markdown, CSV, JSON and one page of HTML, built from records alone."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from harness.board.board import Board, Row
from harness.board.lineage import Lineage
from harness.board.markdown import lineage_section, markdown
from harness.board.result import Result
from harness.board.seal import Seal
from harness.board.table import build
from harness.board.upgrades import SCHEMA
from harness.records.record import Record
from harness.records.workspace import Workspace, write_atomically
from harness.registry.command import command as written
from harness.registry.command import in_workspace
from harness.registry.config import SEARCH_OPTIONS, search_options

NESTED = frozenset({"verdicts", "results", "missing", "cells", "spread", "by_task", "score_by_task", "added",
                    "selectivity"})  # fmt: skip
"""Fields that a CSV has in another form."""


def write_boards(workspace: Workspace, records: Iterable[Record] | None = None) -> tuple[list[Board], Path]:
    """Build the boards of a workspace from its records, in its folder ``boards``; their Markdown is ``board.md``."""
    included = workspace.records()[0] if records is None else list(records)
    folder = workspace.root / "boards"
    again = written("leaderboard", *in_workspace(workspace.root), *search_options())
    return write_files(folder, included, again), folder / "board.md"


def write_files(folder: Path, records: Sequence[Record], command: str, added: Collection[str] = ()) -> list[Board]:
    """Write every file of the boards that these records make; ``command``: the command that makes them again;
    ``added``: cells of records that others sent.
    """
    boards = boards_from(records, command, added)
    for name, text in files(boards, Lineage.of(records, command, added), Seal.of(folder)).items():
        write_atomically(folder / name, text)
    return boards


def boards_from(records: Sequence[Record], command: str, added: Collection[str] = ()) -> list[Board]:
    """The boards of these records. The commands on them run where ``command`` makes the boards: with its plugins and
    configuration files, and in its workspace, unless the boards lie outside of it (``out=``).
    """
    try:
        words = shlex.split(command)
    except ValueError:  # a quote that is never closed: the file was edited by hand
        words = []
    options = [word for pair in pairwise(words) if pair[0] in SEARCH_OPTIONS for word in pair]
    inside = [] if any(word.startswith("out=") for word in words) else [w for w in words if w.startswith("workspace=")]
    more = shlex.join([*inside[-1:], *options])
    return [replace(board, rows=tuple(_with_words(row, more) for row in board.rows)) for board in build(records, added)]


def _with_words(row: Row, words: str) -> Row:
    """A row whose commands have more words; a task without a command stays without."""

    def longer(command: str) -> str:
        return f"{command} {words}".strip() if command else ""

    results = {task: replace(result, command=longer(result.command)) for task, result in row.results.items()}
    missing = tuple(replace(missing, command=longer(missing.command)) for missing in row.missing)
    return replace(row, results=results, missing=missing)


def files(boards: Sequence[Board], lineage: Lineage, seal: Seal | None = None) -> dict[str, str]:
    """Every file of a board, by name. ``seal``: of the seed that its methods will be tested with."""
    from harness.board.page import page

    sealed = f"\n{seal.sentence}\n" if seal else ""
    return {
        "board.md": markdown(boards) + sealed + lineage_section(boards, lineage),
        "board.csv": as_csv(boards),
        "cells.csv": cells_as_csv(boards),
        "board.json": as_json(boards, lineage),
        "board.html": page(boards, lineage, seal),
    }


def as_json(boards: Sequence[Board], lineage: Lineage) -> str:
    """All values of the boards, for programs."""
    data = {"schema": SCHEMA, "lineage": dataclasses.asdict(lineage), "boards": as_data(boards)}
    return json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def as_data(boards: Sequence[Board]) -> list[Any]:
    """The boards as plain values, figures to nine digits. A row of a single seed has no spread, one without strata has
    no selectivity, and one without known circuits has no figures about them.
    """
    data = [_rounded(dataclasses.asdict(board)) for board in boards]
    for row in (row for board in data for row in board["rows"]):
        for figures in (row, *row["results"].values()):
            if figures["selectivity"] is None:
                del figures["selectivity"]
            if not figures.get("known", True):  # rows themselves have none
                del figures["known"]
    for row in (row for board in data for row in board["rows"] if row["spread"] is None):
        del row["spread"]
    return data


def as_csv(boards: Sequence[Board]) -> str:
    """One line per row, figures to nine digits."""
    return _csv(
        {
            "protocol": board.protocol,
            "board": i,
            "score": row.score,
            **_flat(row),
            **_flat_spread(row),
            **_flat_selectivity(row),
            "missing": "; ".join(missing.task for missing in row.missing),
            "cells": " ".join(row.cells),
            **({"added": " ".join(row.added)} if row.added else {}),
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
            **_flat(result),
            **_flat_selectivity(result),
            "verdicts": " ".join(result.verdicts),
        }
        for i, board in enumerate(boards, 1)
        for row in board.rows
        for task, result in row.results.items()
    )


def _rounded(value: Any) -> Any:
    """Numbers to nine digits: the last digits of a sum differ between the machines that check a board."""
    if isinstance(value, float):
        return float(f"{value:.9g}")
    if isinstance(value, Mapping):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list | tuple) else value


def _flat(row: Row | Result) -> dict[str, Any]:
    """The fields that are not nested; an interval as two columns, each cost as one."""
    flat: dict[str, Any] = {}
    for field in dataclasses.fields(row):
        value = getattr(row, field.name)
        if field.name.endswith("interval"):
            flat[f"{field.name}_low"], flat[f"{field.name}_high"] = value or (None, None)
        elif field.name == "scores":
            flat |= dataclasses.asdict(value)
        elif field.name == "known":
            flat |= {f"known_{name}": figure for name, figure in value.items()}
        elif field.name == "cost":
            flat |= {f"cost_{name}": amount for name, amount in value.items()}
        elif field.name not in NESTED:
            flat[field.name] = value
    return flat


def _flat_spread(row: Row) -> dict[str, Any]:
    """Seeds, and the ranges of figures between them; no columns for a single seed."""
    if row.spread is None:
        return {}
    (passed_low, passed_high), (effect_low, effect_high) = row.spread.passed, row.spread.effect or (None, None)
    return {
        "seeds": row.spread.finished,
        "seed_passed_low": passed_low,
        "seed_passed_high": passed_high,
        "seed_effect_low": effect_low,
        "seed_effect_high": effect_high,
    }


def _flat_selectivity(row: Row | Result) -> dict[str, Any]:
    """Selectivity by ratio and by both rules; no columns where nothing was tested inside strata."""
    if row.selectivity is None:
        return {}
    return {f"selectivity_{name}": value for name, value in dataclasses.asdict(row.selectivity).items()}


def _csv(lines: Iterable[Mapping[str, Any]]) -> str:
    rows = [_rounded(line) for line in lines]
    out = io.StringIO()
    writer = csv.DictWriter(out, list(dict.fromkeys(key for row in rows for key in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()
