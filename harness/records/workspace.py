"""The workspace: the folder of results, and atomic writing, so that no record is lost or incomplete."""

from __future__ import annotations

import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.records.record import FINISHED, Record, read_record
from harness.util.errors import HarnessError
from harness.util.paths import expanded


@dataclass(frozen=True)
class Workspace:
    """A folder of results: ``records/<cell>/record.json``, boards, surveys, the tracking database."""

    root: Path

    @classmethod
    def at(cls, where: str | Path) -> Workspace:
        """The workspace at a path; nothing is created. Errors: no path."""
        if not str(where) or "\0" in str(where):  # workspace=$UNSET would fill the current folder
            raise HarnessError("workspace= names no folder.", "Example: workspace=runs")
        return cls(expanded(str(where)).absolute())

    def check_writable(self) -> None:
        """Create the workspace. Errors: it cannot be written to, which is found before hours of computing."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.root):
                pass
        except OSError as error:
            raise HarnessError(
                f"workspace {self.root} cannot be written to: {error.strerror}.", "Choose another folder: workspace=DIR"
            ) from error

    def folder(self, cell: str) -> Path:
        """The folder of a cell's record and figures."""
        return self.root / "records" / cell

    def find(self, cell: str) -> Record | None:
        """A cell's record, or None. Errors: a damaged one."""
        path = self.folder(cell) / "record.json"
        return read_record(path) if path.is_file() else None

    def finished(self, cell: str) -> Record | None:
        """A cell's record if it can be used instead of running the cell again. A failed one cannot."""
        record = self.find(cell)
        return record if record and record.status in FINISHED else None

    def records(self) -> Iterator[Record]:
        """All records, in a fixed order. Errors: a damaged one."""
        for path in sorted((self.root / "records").glob("*/record.json")):
            yield read_record(path)

    def write(self, record: Record, trace: str = "") -> Path:
        """Write a record in one step, with the traceback of a failure beside it. Returns its folder.

        A finished record is never replaced by a failed one. Errors: a disk that is full or was removed.
        """
        folder = self.folder(record.cell.id)
        path, traceback = folder / "record.json", folder / "traceback.txt"
        try:
            if trace:
                write_atomically(traceback, trace)
            else:
                traceback.unlink(missing_ok=True)  # of an earlier attempt
            if record.status in FINISHED or not path.is_file() or not _is_finished(path):
                write_atomically(path, record.to_json() + "\n")
        except OSError as error:
            raise HarnessError(
                f"workspace {self.root}: cell {record.cell.id} could not be recorded: {error.strerror}.",
                "Free some space and repeat the command: finished cells are kept.",
            ) from error
        return folder


def write_atomically(path: Path, text: str) -> None:
    """Write the whole text or nothing."""
    with atomically(path) as beside:
        beside.write_text(text, encoding="utf-8")


@contextmanager
def atomically(path: Path) -> Iterator[Path]:
    """A temporary path to write to. When the block ends, the file is flushed and renamed to ``path``, or removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{uuid.uuid4().hex[:12]}.{path.name}")  # a tempfile would be unreadable for others
    try:
        yield beside
        _flush(beside)
        os.replace(beside, path)
        _flush(path.parent)  # otherwise the new name can be lost at a power failure
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_finished(path: Path) -> bool:
    try:
        return read_record(path).status in FINISHED
    except HarnessError:
        return False
