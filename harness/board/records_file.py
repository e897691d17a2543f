"""The records of a board outside a workspace: one compressed file, one line of JSON for each record."""

from __future__ import annotations

import json
import lzma
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.records.reader import parse_record
from harness.records.record import Record
from harness.records.workspace import atomically
from harness.util.errors import HarnessError

RECORDS = "records.jsonl.xz"
"""Records repeat the groups and figures that cells of one board have in common: compressed, they are a tenth as large.
``xzcat`` shows them."""
PLAIN = "records.jsonl"
"""The same without compression, as boards of earlier versions have it."""
MOST_BYTES = 2**30
"""Largest size of the records of one file, decompressed."""


def has_records(folder: Path) -> bool:
    """Whether this folder has the file with the records of a board."""
    return any((folder / name).is_file() for name in (RECORDS, PLAIN))


def write_records(folder: Path, records: Sequence[Record]) -> None:
    """Write the records beside the board, so that it can be checked and extended without its workspace."""
    lines = [json.dumps(json.loads(r.as_written()), ensure_ascii=False, separators=(",", ":")) for r in records]
    with atomically(folder / RECORDS) as beside, lzma.open(beside, "wt", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{line}\n" for line in lines)
    (folder / PLAIN).unlink(missing_ok=True)


def read_records(folder: Path) -> tuple[dict[str, Record], list[str]]:
    """Every record under a folder (``record.json``, ``records.jsonl``, compressed or not) by its place, and the
    problems.
    """
    records: dict[str, Record] = {}
    problems: list[str] = []
    for path in sorted(path for name in ("record.json", PLAIN, RECORDS) for path in folder.rglob(name)):
        where = str(path.relative_to(folder))
        try:
            texts = list(_texts(path, where, folder))
        except (OSError, EOFError, lzma.LZMAError, HarnessError) as error:
            problems.append(f"{where}: {error.what if isinstance(error, HarnessError) else error}")
            continue
        for place, text in texts:
            try:
                records[place] = parse_record(text, place, "")
            except HarnessError as error:
                problems.append(error.what)
    return records, problems


def _texts(path: Path, where: str, folder: Path) -> Iterator[tuple[str, bytes]]:
    """The JSON of every record in a file, with its place. Errors: more than ``MOST_BYTES``; a link that leads out."""
    if not path.is_file() or not path.resolve().is_relative_to(folder.resolve()):
        raise HarnessError("it is not a file of this folder.", "Send the file itself.")
    with lzma.open(path) if path.name == RECORDS else path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise HarnessError(f"the file holds more than {MOST_BYTES // 2**20} MB of records.", "Send fewer at a time.")
    if path.name == "record.json":
        yield where, content
        return
    for number, line in enumerate(content.removesuffix(b"\n").split(b"\n"), 1):  # JSON may hold other line separators
        yield f"{where}:{number}", line
