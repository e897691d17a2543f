"""Checks that a board agrees with its records: the board is built again from them, and the two boards are compared."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.board.edited_files import edits
from harness.board.lineage import Lineage
from harness.board.seal import Seal
from harness.board.upgrades import CHANGED_3, CHANGED_4, SCHEMA, UPGRADES, upgraded
from harness.board.write import boards_from, files
from harness.records.reader import MOST_BYTES
from harness.records.record import Record
from harness.registry.command import command, override
from harness.util.errors import HarnessError
from harness.util.json_files import content_of

TEXTS = frozenset({"command", "sweeps", "reason"})
"""Keys of ``board.json`` that hold sentences and commands: they change with the wording of the harness."""
NOT_COMPARED = (
    "This board has an older schema: its record digests and the figures that have the same meaning today are compared, "
    "its texts, ranks and corrected p-values are not."
)


@dataclass(frozen=True)
class StoredBoard:
    """A ``board.json`` as today's schema has it; ``outdated``: its file has an older schema."""

    lineage: Mapping[str, Any]
    boards: Sequence[Any]
    outdated: bool

    @property
    def added(self) -> frozenset[str]:
        """Cells of records that others sent."""
        return frozenset(map(str, self.lineage["added"]))


def disagreements(folder: Path, records: Sequence[Record]) -> list[str]:
    """The differences between the board in a folder and these records, one sentence each.

    Figures drawn in the page are not compared: they differ between versions of matplotlib, and the tables hold the same
    numbers. In a board with an older schema, some are not compared: ``NOT_COMPARED``.

    Errors: no board, a damaged one, an unknown schema; an opened seed that is not the sealed one.
    """
    stored = read_board(folder)
    again = str(stored.lineage["command"])
    expected = files(
        boards_from(records, again, stored.added), Lineage.of(records, again, stored.added), Seal.of(folder)
    )
    built = json.loads(expected["board.json"])
    try:
        differences = [*_records(stored.lineage["records"], records), *_values(stored, built)]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        differences = [f"board.json does not read as a board: {error!r}"]
    if differences:
        del expected["board.json"]  # its values are named already
    return differences if stored.outdated else [*differences, *_files(folder, expected)]


def read_board(folder: Path) -> StoredBoard:
    """``board.json`` of a folder. Errors: no such file, a damaged one, an unknown schema."""
    path = folder / "board.json"
    remedy = f"Make it again: {command('leaderboard', 'workspace=DIR', override('out', folder))}"
    if not path.exists():
        raise HarnessError(f"{folder} holds no board (no board.json).", remedy)
    try:
        written = content_of(path, MOST_BYTES)
        data = upgraded(written)
        if data["schema"] == SCHEMA:
            _ = data["lineage"]["command"], [*data["lineage"]["records"].values()], [*data["lineage"]["added"]]
            return StoredBoard(data["lineage"], data["boards"], outdated=written["schema"] != SCHEMA)
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise HarnessError(f"{path} is damaged: {error!r:.200}.", remedy) from error
    readable = ", ".join(UPGRADES)
    raise HarnessError(f"{path} has schema {data['schema']!r}; this harness reads {SCHEMA!r} (and {readable}).", remedy)


def _records(digests: Mapping[str, str], records: Sequence[Record]) -> Iterator[str]:
    present = {record.cell.id: record.digest for record in records}
    for cell, digest in digests.items():
        if cell not in present:
            yield f"record {cell} is missing"
        elif present[cell] != digest:
            yield f"record {cell} was changed: its digest is {present[cell][:12]}, the board has {digest[:12]}"
    for cell in sorted(present.keys() - digests.keys()):
        yield f"record {cell} is not on the board"


def _values(stored: StoredBoard, built: Mapping[str, Any]) -> Iterator[str]:
    """Compare every value of lineage, tables and rows; in an outdated board, all but texts and what changed since."""
    lineages, boards = (stored.lineage, built["lineage"]), (stored.boards, built["boards"])
    if stored.outdated:
        lineages, boards = _without(TEXTS, lineages), _without(TEXTS | CHANGED_3 | CHANGED_4, boards)
    yield from _differences("lineage", *({**lineage, "records": None} for lineage in lineages))
    if len(boards[0]) != len(boards[1]):
        yield f"the board has {len(boards[0])} tables, its records make {len(boards[1])}"
    for i, (table, rebuilt) in enumerate(zip(*boards, strict=False), 1):
        yield from _differences(f"table {i}", {**table, "rows": None}, {**rebuilt, "rows": None})
        yield from _rows(f"table {i}", table["rows"], rebuilt["rows"])


def _rows(table: str, stored: Sequence[Any], built: Sequence[Any]) -> Iterator[str]:
    rows, rebuilt = ({(row["method"], tuple(row["cells"])): row for row in each} for each in (stored, built))
    for key in [*rows, *(key for key in rebuilt if key not in rows)]:
        where = f"{table}, row '{key[0]}'"
        if key not in rebuilt:
            yield f"{where}: no records make it"
        elif key not in rows:
            yield f"{where}: its records make it, the board lacks it"
        else:
            yield from _differences(where, rows[key], rebuilt[key])


def _differences(where: str, stored: Mapping[str, Any], built: Mapping[str, Any]) -> Iterator[str]:
    for key in sorted(built.keys() | stored.keys()):
        on_board, from_records = stored.get(key), built.get(key)
        if isinstance(on_board, dict) and isinstance(from_records, dict):
            yield from _differences(f"{where}, {key}", on_board, from_records)
        elif on_board != from_records:
            yield f"{where}: {key}: the board has {on_board!r}, its records make {from_records!r}"


def _without(keys: frozenset[str], value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without(keys, item) for key, item in value.items() if key not in keys}
    return [_without(keys, item) for item in value] if isinstance(value, list | tuple) else value


def _files(folder: Path, expected: Mapping[str, str]) -> Iterator[str]:
    for name, text in expected.items():
        path = folder / name
        if not path.is_file():
            yield f"{name} is missing"
        elif path.stat().st_size > MOST_BYTES:
            yield f"{name} is larger than {MOST_BYTES >> 20} MiB"
        elif (stored := path.read_text(encoding="utf-8", errors="replace")) != text:
            yield from edits(name, stored, text)
