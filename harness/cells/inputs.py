"""The inputs of a cell's stages: the subject, its examples and recordings, computed once and shared between cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from harness.cells.ablations import cached_evaluate
from harness.cells.cell import Cell
from harness.cells.isolation import watch_models
from harness.cells.progress import Progress
from harness.cells.settings import tests_on_all
from harness.cells.spent import of_recording
from harness.data.batch import Batch, Reads, Vocabulary
from harness.data.contracts import (
    BatchMethod,
    Intervention,
    Method,
    Metric,
    Subject,
    SubjectMethod,
    Tick,
    reads,
    with_defaults,
)
from harness.data.first_order import FirstOrder
from harness.data.grouping import Labels
from harness.data.history import History
from harness.data.recording import Reader, Recording
from harness.data.requests import check_gives, check_signal_of_units, check_sources
from harness.data.stages import call_with, inputs_of
from harness.records.workspace import Workspace
from harness.util.bytesize import parse_size
from harness.util.cache import Cache, Entry, Memo
from harness.util.digest import digest
from harness.util.errors import HarnessError, without_model
from harness.util.fingerprint import identity


@dataclass(frozen=True, eq=False)
class Inputs:
    """The inputs of a cell, and where its work is cached and timed.

    ``batch``: every example; ``proposal_half`` and ``test_half``: the examples to propose on and to test on, which are
    all examples where a group is named by hand or ``split=none``. The three are None if no stage uses examples.
    ``contrast``: examples of another kind, where the cell names some. ``stratum``: the stratum that the proposal half
    belongs to, if examples are divided; ``labels`` are then those of all examples proposed on, and ``outside`` the
    examples of the test half that are not in the stratum, if groups are judged inside it. ``covariates``: the stratum
    of every example of the proposal half, if the affinity takes them.
    """

    cell: Cell
    memo: Memo
    progress: Progress
    subject: Subject
    batch: Batch | None = None
    proposal_half: Batch | None = None
    test_half: Batch | None = None
    contrast: Batch | None = None
    stratum: str = ""
    labels: Labels | None = None
    outside: Batch | None = None
    covariates: Int[np.ndarray, " examples"] | None = None

    @classmethod
    def gather(cls, cell: Cell, memo: Memo, progress: Progress, test: bool) -> Inputs:
        """Load the subject, and create the batches that proposing or testing needs.

        Errors: a subject without a model, where examples are needed; a batch that it cannot read; a source that it does
        not have; a signal that has no number for its units; an intervention that asks for something it does not give;
        a history, of a subject without checkpoints.
        """
        needs_batch = test or cell.has_strata or not cell.requested.isdisjoint({"recording", "history", "batch"})
        check_checkpoints(cell)
        check_files(cell, memo, needs_batch)
        if needs_batch:
            write_before_loading(cell, memo, progress)
        inputs = cls(cell, memo, progress, load_subject(cell, memo, progress))
        readers = inputs.readers("stratifier", "signal", "labels")
        if readers and inputs.subject.reads is None and inputs.subject.observations is None:
            raise without_model(inputs.subject.label)
        check_sources(inputs.subject, readers)
        check_signal_of_units(inputs.subject, readers)
        if not needs_batch:
            return inputs
        if (observations := inputs.subject.observations) is not None and not test:
            return replace(inputs, batch=observations, proposal_half=observations)
        batch = inputs.write(cell.stages["batch"], cell.describe("batch"))
        shared = tests_on_all(cell.config)
        first, second = (batch, batch) if shared else batch.halves(cell.settings.seed)
        contrast = inputs.write(cell.contrast, cell.contrast.name) if test and cell.contrast else None
        if test:
            check_gives(inputs.subject, cell.stages["intervention"])
        return replace(inputs, batch=batch, proposal_half=first, test_half=second, contrast=contrast)

    @property
    def examples(self) -> str:
        """The examples in words: the chosen batch, or the observations of a subject without a model."""
        if self.subject.observations is None:
            return self.cell.describe("batch")
        return f"{len(self.subject.observations)} observations"

    def labels_of_units(self) -> Labels:
        """The classes of the units, from the examples proposed on."""
        method = self.cell.stages["labels"]
        recording = None
        if "recording" in inputs_of(type(method)):
            assert self.proposal_half is not None
            recording = self.record(self.proposal_half, self.readers("labels"))
        labels: Labels = call_with(
            method,
            recording=recording,
            history=self.history() if "history" in inputs_of(type(method)) else None,
            units=self.subject.units,
            truth=self.subject.truth,
        )
        return labels

    def write(self, method: BatchMethod, description: str) -> Batch:
        """The batch of a method, in the subject's tokens and checked against it. Errors: as for :meth:`gather`."""
        if self.subject.reads is None:
            raise without_model(self.subject.label)
        batch: Batch
        with self.progress.step("batch", description):
            key = (repr(self.cell.stages["subject"]), *_with_files(method))
            batch = self.memo.get("batch", key, lambda: write_batch(method, self.subject.reads, self.subject.label))
            batch.check(self.subject.reads)
        return batch

    def recording(self) -> Recording | None:
        """One pass of the proposal half, for all proposing stages that read the model. None: no stage does."""
        if "recording" not in self.cell.requested or self.proposal_half is None:
            return None
        return self.record(self.proposal_half, self.readers("signal", "labels"))

    def history(self) -> History | None:
        """One pass of the proposal half at every checkpoint, for all proposing stages that read the model. None: no
        stage asks for it. Errors: those of :func:`history_of`.
        """
        if "history" not in self.cell.requested or self.proposal_half is None:
            return None
        readers = self.readers("signal", "labels")
        checkpoints = self.cell.stages["subject"].checkpoints()
        key = (repr(checkpoints), self.proposal_half.digest, repr(readers))
        history: History = self.memo.get("history", key, lambda: history_of(self, checkpoints, readers), keep=1)
        return history

    def readers(self, *stages: str) -> dict[str, Reader]:
        """The methods of these stages that read the model, where the cell's candidates depend on them."""
        used = [stage for stage in stages if stage in ("labels", "stratifier") or stage in self.cell.proposing]
        return {stage: self.cell.stages[stage] for stage in used if reads(self.cell.stages[stage])}

    def record(self, batch: Batch, readers: Mapping[str, Reader]) -> Recording:
        """The readings of all readers on a batch: one pass for those that are not cached yet."""
        readers = {name: self._in_force(reader) for name, reader in readers.items()}
        context = [*self.key, batch.digest]
        keys = {name: digest(context, identity(reader)) for name, reader in readers.items()}
        disk = self.memo.disk

        def make() -> Recording:
            entries = {name: disk.read("reading", key) for name, key in keys.items()}
            readings = {name: entry.arrays["reading"] for name, entry in entries.items() if entry}
            missing = {name: reader for name, reader in readers.items() if name not in readings}
            if missing:
                readings |= self.subject.record(batch, missing, tick).readings
                for name in missing:
                    disk.write("reading", keys[name], Entry({"reading": readings[name]}))
            return Recording(batch, self.subject.units, readings)

        check_sources(self.subject, readers)
        self.progress.spend(flops=of_recording(self.subject, batch, readers))
        with self.progress.step("recording", f"{len(batch)} examples", total=len(batch)) as tick:
            recording: Recording = self.memo.get("recording", (disk.folder, *keys.items()), make)
        return recording

    def _in_force(self, reader: Reader) -> Reader:
        """A reader of first-order damage is given that by the cell's intervention, on its first metric."""
        if reader.source != FirstOrder.source:
            return reader
        return FirstOrder(reader, self.cell.stages["intervention"], self.cell.stages["metric"][0])

    def evaluate(
        self,
        batch: Batch,
        conditions: Sequence[tuple[int, ...]],
        intervention: Intervention,
        metrics: Sequence[Metric],
        tick: Tick,
        reference: Batch | None = None,
    ) -> Float[np.ndarray, "metrics conditions examples"]:
        """Like the subject's ``evaluate``, but conditions that a cell has already evaluated are read from the cache."""
        return cached_evaluate(
            self.subject, self.key, self.memo, self.progress, batch, conditions, intervention, metrics, tick, reference
        )

    @property
    def key(self) -> list[Any]:
        """Identity of the subject: how it was loaded, and its weights. All measurements on equal subjects are equal."""
        method = self.cell.stages["subject"]
        key: list[Any] = self.memo.get("subject key", repr(method), lambda: identity(method), keep=1)
        return [*key, self.subject.about.get("weights")]


def history_of(inputs: Inputs, checkpoints: Mapping[int, SubjectMethod], readers: Mapping[str, Reader]) -> History:
    """The recordings of the proposal half at every checkpoint, each cached like any recording.

    One model is in memory at a time, beside the cell's own.

    Errors: checkpoints that cannot read the batch, or have other units; two with equal weights, of which one is not
    what its name says.
    """
    assert inputs.proposal_half is not None
    recordings: dict[int, Recording] = {}
    weights: dict[Any, int] = {}
    for step, method in sorted(checkpoints.items()):
        own = method == inputs.cell.stages["subject"]
        subject = inputs.subject if own else _loaded(method)
        if subject.units != inputs.subject.units:
            raise HarnessError(
                f"checkpoint {subject.label} has {_units_of(subject)}; {inputs.subject.label} has "
                f"{_units_of(inputs.subject)}. A history compares the same units at every step.",
                "Leave this checkpoint out.",
            )
        digest_of_weights = subject.about.get("weights")
        if digest_of_weights is not None and (same := weights.setdefault(digest_of_weights, step)) != step:
            raise HarnessError(
                f"checkpoints at steps {same} and {step} of {inputs.subject.label} have equal weights, so one of "
                "them is not what its name says.",
                "Leave one of them out. (Many branches of public models serve the final weights.)",
            )
        if subject.reads is not None:
            inputs.proposal_half.check(subject.reads)
        stages = {**inputs.cell.stages, "subject": method}
        there = replace(inputs, cell=replace(inputs.cell, stages=stages), subject=subject)
        recordings[step] = there.record(inputs.proposal_half, readers)
        del subject, there  # before the next model is loaded
    return History(tuple(recordings), tuple(recordings.values()))


def _units_of(subject: Subject) -> str:
    labels = subject.units.labels
    return f"{len(labels)} units, {labels[0]} to {labels[-1]}"


def check_checkpoints(cell: Cell) -> None:
    """Refuse a method that asks for a history, where the subject has none."""
    if "history" not in cell.requested or cell.stages["subject"].checkpoints():
        return
    asking = next(
        f"{stage} {method.name}"
        for stage in ("labels", *cell.proposing)
        for method in cell.methods[stage]
        if "history" in inputs_of(method.cls)
    )
    raise HarnessError(
        f"{asking} asks for the recordings at every checkpoint; subject {cell.describe('subject')} has no checkpoints.",
        "Choose a subject with checkpoints (tiny, tiny_moe, tiny_retrieval), or name some of a model on the hub: "
        "subject=hf 'subject.history=[step1000,step143000]'",
    )


def check_files(cell: Cell, memo: Memo, needs_batch: bool) -> None:
    """Refuse files that the cell's methods cannot read, before a model is loaded for them."""
    used = [cell.stages[stage] for stage in cell.used if needs_batch or stage != "batch"]
    for methods in [*used, *([cell.contrast] if cell.contrast else [])]:
        for method in methods if isinstance(methods, tuple) else (methods,):
            memo.get("files", _with_files(method), method.check_files, keep=100)


def _with_files(method: Method) -> tuple[str, str]:
    """A method with the content of its files: a session may outlive an edit of one."""
    return repr(method), method.fingerprint()


def write_before_loading(cell: Cell, memo: Memo, progress: Progress) -> None:
    """Make the batch of a model whose tokens are known without its weights, so that its errors come early."""
    method, subject = cell.stages["batch"], cell.stages["subject"]
    key = (repr(subject), *_with_files(method))
    if memo.has("subject", key[0]) or memo.has("batch", key) or (vocabulary := subject.vocabulary()) is None:
        return
    with progress.step("batch", cell.describe("batch")):
        memo.get("batch", key, lambda: write_batch(method, vocabulary, cell.describe("subject"))).check(vocabulary)


def write_batch(method: BatchMethod, reads: Reads, subject: str) -> Batch:
    """The examples of a method for a subject. Errors: a method of token sequences, for a subject of vectors."""
    available = {"vocabulary" if isinstance(reads, Vocabulary) else "width": reads}
    for name in inputs_of(type(method)):
        if name not in available:
            other, kinds = {
                "vocabulary": ("vectors", "token sequences"),
                "width": ("token sequences", "vectors"),
            }[name]
            raise HarnessError(
                f"batch {method.name} makes {kinds}; subject {subject} reads {other}.",
                "Choose another batch (`harness list batch`), or another subject.",
            )
    batch: Batch = call_with(method, **available)
    return batch


def load_subject(cell: Cell, memo: Memo, progress: Progress) -> Subject:
    """The subject, loaded once for all cells that ask for the same one."""
    subject: Subject
    method = cell.stages["subject"]
    with progress.step("subject", cell.describe("subject")):
        subject = memo.get("subject", repr(method), lambda: _loaded(method), keep=1)
    return subject


def _loaded(method: SubjectMethod) -> Subject:
    subject = method()
    with_defaults(type(subject), Subject)
    watch_models(subject)
    return subject


def cache_of(cell: Cell) -> Cache:
    """The cache of the cell's workspace. If the cell uses no cache, one that stores nothing."""
    settings = cell.settings
    if not settings.cache:
        return Cache()
    return _opened(Workspace.at(settings.workspace).root / "cache", parse_size(settings.cache_limit))


@cache
def _opened(folder: Path, limit: int) -> Cache:
    return Cache(folder, limit)  # one per process, so that a full disk is reported once
