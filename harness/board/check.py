"""Whether a board says what its records say: it is made again from them, and compared."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.board.lineage import Made
from harness.board.table import build
from harness.board.write import SCHEMA, files
from harness.records.record import Record
from harness.util.errors import HarnessError


def disagreements(folder: Path, records: Sequence[Record]) -> list[str]:
    """Where the board in a folder and these records part: which record, which row, which file, and what.

    Figures drawn inside the page are left out: they differ with the version of what draws them, and say nothing that
    the tables do not. Errors: there is no board, or one of another schema.
    """
    said = read_board(folder)
    made = Made.of(records, said["made"]["command"])
    expected = files(build(records), made)
    try:
        found = [*_records(said["made"]["records"], records), *_rows(said, json.loads(expected["board.json"]))]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        found = [f"board.json does not read as a board: {error!r}"]
    for name, text in expected.items():
        path = folder / name
        if not path.is_file():
            found.append(f"{name} is not there")
        elif _undrawn(path.read_text(encoding="utf-8", errors="replace")) != _undrawn(text):
            found.append(f"{name} is not what these records make")
    return found


def read_board(folder: Path) -> dict[str, Any]:
    """``board.json`` of a folder. Errors: none there, damaged, of another schema."""
    path = folder / "board.json"
    remedy = f"Make it: harness leaderboard workspace=DIR out={folder}"
    if not path.is_file():
        raise HarnessError(f"{folder} holds no board (no board.json).", remedy)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        schema = data["schema"]
        _ = data["made"]["command"], data["made"]["records"], data["boards"]
    except (ValueError, KeyError, TypeError) as error:
        raise HarnessError(f"{path} is damaged: {error!r}.", remedy) from error
    if schema != SCHEMA:
        raise HarnessError(f"{path} has schema {schema!r}; this harness reads {SCHEMA!r}.", remedy)
    return dict(data)


def _records(said: Mapping[str, str], records: Sequence[Record]) -> Iterator[str]:
    digests = {record.cell.id: record.digest for record in records}
    for cell, digest in said.items():
        if cell not in digests:
            yield f"record {cell} is not there"
        elif digests[cell] != digest:
            yield f"record {cell} has been changed: its digest is {digests[cell][:12]}, the board says {digest[:12]}"
    for cell in sorted(digests.keys() - said.keys()):
        yield f"record {cell} is not on the board"


def _rows(said: Mapping[str, Any], made: Mapping[str, Any]) -> Iterator[str]:
    for key in made["made"]:
        if key != "records" and said["made"].get(key) != made["made"][key]:
            yield f"made.{key}: the board says {said['made'].get(key)!r}, its records {made['made'][key]!r}"
    if len(said["boards"]) != len(made["boards"]):
        yield f"the board has {len(said['boards'])} tables, its records make {len(made['boards'])}"
    for i, (one, other) in enumerate(zip(said["boards"], made["boards"], strict=False), 1):
        where = f"table {i}"
        yield from _differ(where, {**one, "rows": None}, {**other, "rows": None})
        rows, again = ({(row["method"], tuple(row["cells"])): row for row in of["rows"]} for of in (one, other))
        for key in [*rows, *(key for key in again if key not in rows)]:
            named = f"{where}, row '{key[0]}'"
            if key not in again:
                yield f"{named}: no records make it"
            elif key not in rows:
                yield f"{named}: its records make it, the board lacks it"
            else:
                yield from _differ(named, rows[key], again[key])


def _differ(where: str, said: Mapping[str, Any], made: Mapping[str, Any]) -> Iterator[str]:
    for key in sorted(made.keys() | said.keys()):
        if said.get(key) != made.get(key):
            if isinstance(said.get(key), dict) and isinstance(made.get(key), dict):
                yield from _differ(f"{where}, {key}", said[key], made[key])
            else:
                yield f"{where}: {key}: the board says {said.get(key)!r}, its records {made.get(key)!r}"


def _undrawn(text: str) -> str:
    return re.sub(r"<svg.*?</svg>", "", text, flags=re.DOTALL)
