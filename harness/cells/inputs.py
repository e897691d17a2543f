"""What cells share: the subject, its batches and their recordings, made once and when first needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from harness.cells.cell import Cell
from harness.cells.isolation import watch_models
from harness.cells.progress import Progress
from harness.cells.spent import of_recording
from harness.data.batch import Batch
from harness.data.recording import Reader, Recording
from harness.data.stages import BatchMethod, Subject, SubjectMethod, reads, with_defaults
from harness.records.workspace import Workspace
from harness.util.bytesize import parse_size
from harness.util.cache import Cache, Entry, Memo
from harness.util.digest import digest
from harness.util.errors import without_model
from harness.util.fingerprint import identity


def cache_of(cell: Cell) -> Cache:
    """The cache of the cell's workspace; one that keeps nothing where the cell wants none."""
    told = cell.settings
    return _opened(Workspace.at(told.workspace).root / "cache", parse_size(told.cache_limit)) if told.cache else Cache()


@cache
def _opened(folder: Path, limit: int) -> Cache:
    return Cache(folder, limit)  # one per process: it says once that the disk is full


def load_subject(cell: Cell, memo: Memo, progress: Progress) -> Subject:
    """The subject, loaded once for all cells that ask for the same one."""
    subject: Subject
    method = cell.stages["subject"]
    with progress.step("subject", cell.describe("subject")):
        subject = memo.get("subject", repr(method), lambda: watch_models(_loaded(method)), keep=1)
    return subject


def _loaded(method: SubjectMethod) -> Subject:
    subject = method()
    with_defaults(type(subject), Subject)
    return subject


def write_batch(
    cell: Cell, subject: Subject, memo: Memo, progress: Progress, method: BatchMethod | None = None
) -> Batch:
    """The batch (or what another ``method`` writes), in the subject's tokens and checked against it.

    Errors: a subject without a model.
    """
    if not subject.vocab_size:
        raise without_model(subject.label)
    batch: Batch
    writer: BatchMethod = method or cell.stages["batch"]
    with progress.step("batch", writer.name if method else cell.describe("batch")):
        key = (repr(cell.stages["subject"]), repr(writer))
        batch = memo.get("batch", key, lambda: writer(subject))
        batch.check(subject)
    return batch


@dataclass(eq=False)
class Halves:
    """The examples to propose on and those to test on, written when first needed.

    A group named by hand is tested on all of them.
    """

    cell: Cell
    subject: Subject
    memo: Memo
    progress: Progress

    @cached_property
    def whole(self) -> Batch:
        """Every example."""
        return write_batch(self.cell, self.subject, self.memo, self.progress)

    @cached_property
    def _split(self) -> tuple[Batch, Batch]:
        if self.cell.settings.group or self.cell.settings.split == "none":
            return self.whole, self.whole
        return self.whole.halves(self.cell.settings.seed)

    @property
    def proposal(self) -> Batch:
        """What groups are proposed on."""
        return self._split[0]

    @property
    def test(self) -> Batch:
        """What they are tested on."""
        return self._split[1]

    @cached_property
    def contrast(self) -> Batch | None:
        """Examples of another kind, where the cell names some."""
        if self.cell.contrast is None:
            return None
        return write_batch(self.cell, self.subject, self.memo, self.progress, self.cell.contrast)


def subject_key(cell: Cell, subject: Subject, memo: Memo) -> list[Any]:
    """What makes two subjects the same to everything measured on them: how they were loaded, and their weights."""
    method = cell.stages["subject"]
    key: list[Any] = memo.get("subject key", repr(method), lambda: identity(method), keep=1)
    return [*key, subject.about.get("weights")]


def readers_of(cell: Cell, *stages: str) -> dict[str, Reader]:
    """The methods of these stages that look at the model."""
    return {stage: cell.stages[stage] for stage in stages if reads(cell.stages[stage])}


def record_batch(
    cell: Cell, subject: Subject, batch: Batch, readers: Mapping[str, Reader], memo: Memo, progress: Progress
) -> Recording:
    """What all readers make of a batch: one pass for those whose reading nobody has made yet."""
    of = [*subject_key(cell, subject, memo), batch.digest]
    keys = {name: digest(of, identity(reader)) for name, reader in readers.items()}

    def make() -> Recording:
        found = {name: memo.disk.read("reading", key) for name, key in keys.items()}
        readings = {name: entry.arrays["reading"] for name, entry in found.items() if entry}
        missing = {name: reader for name, reader in readers.items() if name not in readings}
        if missing:
            readings |= subject.record(batch, missing, tick).readings
            for name in missing:
                memo.disk.write("reading", keys[name], Entry({"reading": readings[name]}))
        return Recording(batch, subject.units, readings)

    progress.spend(flops=of_recording(subject, batch, readers))
    with progress.step("recording", f"{len(batch)} examples", total=len(batch)) as tick:
        recording: Recording = memo.get("recording", (memo.disk.folder, *keys.items()), make)
    return recording
