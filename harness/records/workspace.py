"""The workspace: the folder of results, its locks, and atomic writing, so that no record is lost or incomplete."""

from __future__ import annotations

import errno
import os
import re
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.records.flaws import CELL_ID
from harness.records.reader import read_record
from harness.records.record import FINISHED, Record
from harness.util.errors import HarnessError
from harness.util.paths import expanded

if TYPE_CHECKING:
    import numpy as np
UNFINISHED = re.compile(r"\.[0-9a-f]{12}\..+|\.[0-9a-f]{32}|\.(stop|untracked)-[0-9a-f]{32}")
"""Names of temporary files: of ``atomically``, of the cache, and marks that processes of a sweep set for each other."""
ABANDONED = 7 * 86400  # seconds: no process still writes a temporary file of that age
ADVICE = {
    errno.ENOSPC: "Free some space and repeat the command: finished cells are kept.",
    errno.EDQUOT: "Your quota is used up. Free some space and repeat the command: finished cells are kept.",
    errno.EROFS: "The disk is read-only. Choose another folder.",
    errno.EACCES: "You have no permission to write there. Choose another folder.",
}


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
        """Create the workspace, and remove temporary files that killed processes left there long ago.

        Errors: it cannot be written to, which is found before hours of computing.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.root) as file:
                now = os.fstat(file.fileno()).st_mtime  # by the clock of this disk
        except OSError as error:
            raise HarnessError(
                f"workspace {self.root} cannot be written to: {error.strerror}.", "Choose another folder: workspace=DIR"
            ) from error
        remove_unfinished(self.root, before=now - ABANDONED)
        for folder, _, _ in os.walk(self.root / "cache"):
            remove_unfinished(Path(folder), before=now - ABANDONED)

    @contextmanager
    def locked(self, name: str, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Hold a lock, one process at a time; ``waiting`` is called if another process holds it.

        A lock ends with its process, however that ends. On a disk without locks the block runs without: two processes
        may then compute the same cell, and each still writes a complete record.
        """
        from filelock import FileLock, Timeout

        lock = FileLock(self.root / ".locks" / f"{name}.lock")
        with suppress(OSError, NotImplementedError):
            Path(lock.lock_file).parent.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                waiting()
                lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def folder(self, cell: str) -> Path:
        """The folder of a cell's record and figures. Errors: a name that is no id, and could lead elsewhere."""
        if not CELL_ID.fullmatch(cell):
            raise HarnessError(f"{cell!r:.99} is not the id of a cell.", "`harness plan ...` lists the ids of cells.")
        return self.root / "records" / cell

    def find(self, cell: str) -> Record | None:
        """A cell's record, or None. Errors: a damaged one."""
        path = self.folder(cell) / "record.json"
        return _record_of(path) if path.exists() else None

    def arrays(self, cell: str, name: str) -> dict[str, np.ndarray]:
        """The arrays of a file beside a cell's record; none without the file. Errors: a damaged file."""
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        path = self.folder(cell) / name
        try:
            return dict(load_file(path)) if path.exists() else {}
        except (SafetensorError, OSError, ValueError, TypeError, KeyError) as error:
            raise HarnessError(f"{path} is damaged: {error}.", f"Run cell {cell} again with --force.") from error

    def finished(self, cell: str) -> Record | None:
        """A cell's record if it can be used instead of running the cell again. A failed one cannot."""
        record = self.find(cell)
        return record if record and record.status in FINISHED else None

    def records(self) -> tuple[list[Record], list[str]]:
        """All records that can be read, in a fixed order, and a sentence about each that cannot."""
        found, problems = [], []
        for path in sorted((self.root / "records").glob("*/record.json")):
            try:
                found.append(_record_of(path))
            except HarnessError as error:
                problems.append(str(error))
        return found, problems

    def write(self, record: Record, trace: str = "") -> Path:
        """Write a record in one step, with the traceback of a failure beside it. Returns its folder.

        A finished record is never replaced by a failed one. Errors: a disk that is full or was removed.
        """
        folder = self.folder(record.cell.id)
        path, traceback = folder / "record.json", folder / "traceback.txt"
        if trace:
            write_atomically(traceback, trace)
        else:
            with writing(traceback):
                traceback.unlink(missing_ok=True)  # of an earlier attempt
        if record.status in FINISHED or not path.is_file() or not _is_finished(path):
            write_atomically(path, record.to_json() + "\n")
        return folder


def _record_of(path: Path) -> Record:
    """The record in a cell's folder. Errors: a damaged one, or one of another cell: its arrays lie elsewhere."""
    record = read_record(path)
    if record.cell.id != path.parent.name:
        raise HarnessError(
            f"record {path.parent.name} is of cell {record.cell.id}.",
            f"Move its folder to {path.parent.with_name(record.cell.id)}, or away: {path.parent}",
        )
    return record


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """An error of the disk in this block becomes a sentence that names the path."""
    try:
        yield
    except OSError as error:
        fix = ADVICE.get(error.errno or 0, "Choose another file or folder, or check the disk.")
        raise HarnessError(f"{path} cannot be written: {error.strerror or error}.", fix) from error


def remove_unfinished(folder: Path, before: float = float("inf")) -> None:
    """Remove temporary files in a folder that were last written before a time. Give no time only under its lock."""
    for file in folder.iterdir() if folder.is_dir() else ():
        with suppress(OSError):  # another process has just removed it
            if UNFINISHED.fullmatch(file.name) and file.stat().st_mtime < before:
                file.unlink()


def write_atomically(path: Path, text: str) -> None:
    """Write the whole text or nothing."""
    with atomically(path) as beside:
        beside.write_text(text, encoding="utf-8", errors="replace")  # a traceback may hold half a surrogate pair


@contextmanager
def atomically(path: Path) -> Iterator[Path]:
    """A temporary path to write to. When the block ends, the file is flushed and renamed to ``path``, or removed.

    Errors: a disk that is full, read-only or was removed.
    """
    beside = path.with_name(f".{uuid.uuid4().hex[:12]}.{path.name}")  # a tempfile would be unreadable for others
    with writing(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield beside
            _flush(beside)
            os.replace(beside, path)
        except BaseException:
            with suppress(OSError):
                beside.unlink()
            raise
    with suppress(OSError):  # some network disks cannot flush a folder; the file itself is complete
        _flush(path.parent)  # otherwise the new name can be lost at a power failure


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
