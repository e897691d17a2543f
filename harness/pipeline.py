"""One cell, top to bottom: what is proposed, how it is put to the test, and the record that comes of it."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from harness.batch import Batch
from harness.cache import Memo
from harness.cell import Cell
from harness.closure.trial import ClosureReport, close
from harness.errors import HarnessError, without_model
from harness.groups import Candidate
from harness.hookspecs import CellFinished
from harness.plugins import Plugins
from harness.progress import Progress
from harness.proposal import Proposal
from harness.provenance import provenance
from harness.record import CandidateRecord, CellInfo, PartitionRecord, Record, Status
from harness.recording import Recording, Spins
from harness.stages import Subject, asked
from harness.units import UnitSpace
from harness.workspace import Workspace, write_atomically


def run_cell(cell: Cell, memo: Memo, progress: Progress, test: bool = True) -> tuple[Record, Proposal | None]:
    """Propose on one part of the examples, test on the other; ``test=False`` stops before ablation.

    A group named by hand is not proposed.
    """
    subject = load_subject(cell, memo, progress)
    halves = Halves(cell, subject, memo, progress)
    if test:
        _ = halves.test  # what cannot be tested is refused before anything is computed
    proposal = None if cell.settings.group else propose(cell, subject, halves, memo, progress)
    candidates = proposal.candidates if proposal else (Candidate(subject.units.find(cell.settings.group)),)
    closures = dispose(cell, subject, halves.test, candidates, progress) if test and candidates else ()
    return _record(cell, subject, halves, proposal, candidates, closures, progress), proposal


def propose(cell: Cell, subject: Subject, halves: Halves, memo: Memo, progress: Progress) -> Proposal:
    """recording -> activity -> spins -> affinity -> partitions -> candidates, as far as the methods ask for them."""
    readers = [stage for stage in ("signal", "labels") if stage == "labels" or stage in cell.proposing]

    def record(batch: Batch) -> Recording:
        return record_batch(cell, subject, batch, readers, memo, progress)

    proposal = Proposal(
        cell.stages, subject.units, lambda: halves.proposal, record, cell.settings.reruns, cell.settings.seed
    )
    with one_thread():
        if any("recording" in asked(method.cls) for stage in readers for method in cell.methods[stage]):
            _ = proposal.recording  # a step of its own, with its own time
        with progress.step("proposal", cell.method):
            _ = proposal.labels, proposal.candidates
    return proposal


def dispose(
    cell: Cell, subject: Subject, batch: Batch, candidates: Sequence[Candidate], progress: Progress
) -> tuple[ClosureReport, ...]:
    """The closure test of every candidate, on examples that were not used to propose it."""
    told, stages = cell.settings, cell.stages
    reports = []
    for candidate in candidates:
        conditions = 3 + stages["controls"].n if hasattr(stages["controls"], "n") else None
        what = f"{len(candidate.members)} units, {len(batch)} examples"
        with progress.step("closure", what, total=len(batch) * conditions if conditions else None) as tick:
            reports.append(
                close(
                    candidate.members,
                    subject,
                    batch,
                    stages["intervention"],
                    stages["controls"],
                    stages["metric"],
                    told.alpha,
                    told.ddof,
                    told.seed,
                    tick,
                )
            )
    return tuple(reports)


# ----------------------------------------------------------------------------------------------------------------------
# What cells share: loaded, written and recorded once per process
# ----------------------------------------------------------------------------------------------------------------------


def load_subject(cell: Cell, memo: Memo, progress: Progress) -> Subject:
    """The subject, loaded once for all cells that ask for the same one."""
    subject: Subject
    with progress.step("subject", cell.describe("subject")):
        subject = memo.get("subject", repr(cell.stages["subject"]), cell.stages["subject"], keep=1)
    return subject


def write_batch(cell: Cell, subject: Subject, memo: Memo, progress: Progress) -> Batch:
    """The batch, written in the subject's tokens and checked against it. Errors: a subject without a model."""
    if not subject.vocab_size:
        raise without_model(subject.label)
    batch: Batch
    with progress.step("batch", cell.describe("batch")):
        key = (repr(cell.stages["subject"]), repr(cell.stages["batch"]))
        batch = memo.get("batch", key, lambda: cell.stages["batch"](subject))
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


def record_batch(
    cell: Cell, subject: Subject, batch: Batch, stages: Sequence[str], memo: Memo, progress: Progress
) -> Recording:
    """One pass for all stages that read the model."""
    readers = {stage: cell.stages[stage] for stage in stages if hasattr(cell.stages[stage], "read")}
    key = (repr(cell.stages["subject"]), batch.digest, repr(readers))
    with progress.step("recording", f"{len(batch)} examples", total=len(batch)) as tick:
        recording: Recording = memo.get("recording", key, lambda: subject.record(batch, readers, tick))
    return recording


@contextmanager
def one_thread() -> Iterator[None]:
    """Numerical libraries on one thread: small fits in a loop are fifty times slower when threads fight over cores."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        yield


# ----------------------------------------------------------------------------------------------------------------------
# From a cell to its record on disk, whatever happens
# ----------------------------------------------------------------------------------------------------------------------


def execute(cell: Cell, workspace: Workspace, plugins: Plugins, memo: Memo, progress: Progress) -> Record:
    """Run a cell, or serve its finished record; never raises for what happens inside it.

    Ctrl-C ends the cell as interrupted and is passed on.
    """
    if not cell.settings.force and (done := workspace.finished(cell.id)):
        progress.say(f"  done already: {workspace.folder(cell.id)}")
        return done
    interrupt: KeyboardInterrupt | None = None
    trace = ""
    try:
        record, proposal = run_cell(cell, memo, progress)
        record.to_json()  # diagnostics that JSON cannot hold fail the cell here, not its writing below
        keep_affinity(workspace.folder(cell.id), proposal)
    except HarnessError as error:
        record = _unfinished(cell, Status.INVALID, str(error), progress)
    except KeyboardInterrupt as error:
        interrupt, record = error, _unfinished(cell, Status.INTERRUPTED, "stopped by the user", progress)
    except Exception as error:  # a method's own failure: the cell fails, the sweep goes on
        trace = traceback.format_exc()
        reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        record = _unfinished(cell, Status.FAILED, reason, progress)
    left = workspace.folder(cell.id) / "traceback.txt"
    if trace:
        write_atomically(left, trace)
    else:
        left.unlink(missing_ok=True)  # of an earlier try
    folder = workspace.write(record)
    announce(CellFinished(record, folder), plugins, progress)
    if interrupt:
        raise interrupt
    return record


def keep_affinity(folder: Path, proposal: Proposal | None) -> None:
    """The affinity matrix and its picture, beside the record; nothing where no method asked for an affinity."""
    if proposal is None or not proposal.has("affinity"):
        return
    from safetensors.numpy import save_file

    from harness.board.picture import draw_affinity

    folder.mkdir(parents=True, exist_ok=True)
    save_file({"affinity": np.ascontiguousarray(proposal.affinity.matrix)}, folder / "affinity.safetensors")
    candidate = proposal.candidates[0].members if proposal.candidates else ()
    draw_affinity(proposal.affinity, proposal.partition, candidate, folder / "affinity.png")


def announce(event: CellFinished, plugins: Plugins, progress: Progress) -> None:
    """Tell every watcher; one that fails is reported, and the record stands."""
    for implementation in plugins.manager.hook.harness_cell_finished.get_hookimpls():
        try:
            implementation.function(**dict.fromkeys(implementation.argnames, event))
        except Exception as error:
            progress.say(f"  warning: {implementation.plugin_name}: {type(error).__name__}: {error}")


def _unfinished(cell: Cell, status: Status, reason: str, progress: Progress) -> Record:
    info = _info(cell, cell.describe("subject"), "unknown")
    return Record(status, reason, info, cell.config, provenance(cell), seconds=progress.seconds)


def _record(
    cell: Cell,
    subject: Subject,
    halves: Halves,
    proposal: Proposal | None,
    candidates: Sequence[Candidate],
    closures: tuple[ClosureReport, ...],
    progress: Progress,
) -> Record:
    batch = halves.whole if "whole" in vars(halves) else None  # a proposal without a model needs no examples
    written = (
        {"digest": batch.digest, "n": len(batch), "target": batch.target_kind, "notes": dict(batch.notes)}
        if batch
        else {}
    )
    reason = _nothing(cell, proposal) if proposal and not candidates else ""
    return Record(
        status=Status.OK if candidates else Status.SKIPPED,
        reason=reason,
        cell=_info(cell, subject.label, batch.target_kind if batch else "none"),
        config=cell.config,
        provenance={**provenance(cell), "subject": dict(subject.about), "batch": written},
        units=subject.units.labels,
        classes=proposal.labels.classes if proposal else (),
        partitions=_partitions(proposal) if proposal else (),
        chosen=proposal.chosen if proposal else None,
        candidates=tuple(_candidate(candidate, subject.units) for candidate in candidates),
        closure=closures,
        diagnostics=_diagnostics(proposal) if proposal else {},
        seconds={name: round(spent, 4) for name, spent in progress.seconds.items()},
    )


def _partitions(proposal: Proposal) -> tuple[PartitionRecord, ...]:
    return tuple(
        PartitionRecord(
            name=partition.name,
            k=partition.k,
            groups=len(partition.groups()),
            labels=tuple(partition.labels.tolist()),
            quality=quality,
            agreement=agreement,
            stability=partition.stability,
            diagnostics=dict(partition.diagnostics),
        )
        for partition, quality, agreement in zip(
            proposal.partitions, proposal.quality, proposal.agreement(), strict=True
        )
    )


def _diagnostics(proposal: Proposal) -> dict[str, Any]:
    """What the stages have to say about what they made, those that were asked."""
    found: dict[str, Any] = {}
    if proposal.has("observations") and isinstance(proposal.observations, Spins):
        found["binarizer"] = dict(proposal.observations.diagnostics)
    if proposal.has("affinity"):
        found["affinity"] = dict(proposal.affinity.diagnostics)
    if noted := dict(proposal.partition.diagnostics):
        found["partitioner"] = noted
    return found


def _nothing(cell: Cell, proposal: Proposal) -> str:
    """Why there is no candidate, for whoever has to choose other numbers."""
    if proposal.says_nothing:
        tried = ", ".join(partition.name for partition in proposal.found)
        return (
            f"partitioner {cell.describe('partitioner')} found no groups ({tried}): all units are in one, or each is "
            "by itself. Ask for another number of groups (k, resolution), or take an affinity that tells units apart "
            "more sharply (affinity=pearson_knn)."
        )
    sizes = ", ".join(str(len(group)) for group in proposal.partition.groups())
    found = f"{proposal.partition.name} gave groups of {sizes} units"
    return f"selector {cell.describe('selector')} found no group that qualifies: {found}"


def _info(cell: Cell, subject: str, target: str) -> CellInfo:
    return CellInfo(
        id=cell.id,
        row=cell.row,
        protocol=cell.protocol,
        title=cell.title,
        method=cell.method,
        subject=subject,
        batch=cell.describe("batch"),
        target=target,
        intervention=cell.describe("intervention"),
        supervised=cell.supervised,
    )


def _candidate(candidate: Candidate, units: UnitSpace) -> CandidateRecord:
    return CandidateRecord(
        units=tuple(units.names(candidate.members)),
        size=len(candidate.members),
        layers=tuple(sorted({int(units.layers[unit]) for unit in candidate.members})),
        purity=candidate.purity,
        isolation=candidate.isolation,
        score=candidate.score,
    )
