"""One cell, top to bottom: what is proposed, how it is put to the test, and the record that comes of it."""

from __future__ import annotations

import dataclasses
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.batch import Batch
from harness.cache import Memo
from harness.cell import Cell
from harness.closure.trial import ClosureReport, close
from harness.errors import HarnessError
from harness.groups import Affinity, Agreement, Candidate, Labels, Partition
from harness.hookspecs import CellFinished
from harness.plugins import Plugins
from harness.progress import Progress
from harness.provenance import provenance
from harness.record import CandidateRecord, CellInfo, PartitionRecord, Record, Status
from harness.recording import Recording
from harness.stages import Subject
from harness.units import UnitSpace
from harness.workspace import Workspace, write_atomically


@dataclass(frozen=True)
class Proposal:
    """Everything up to the candidates. Partitions and labels are empty for a group named by hand."""

    candidates: tuple[Candidate, ...]
    chosen_k: int | None = None
    partitions: tuple[Partition, ...] = ()
    agreement: tuple[Agreement, ...] = ()
    labels: Labels | None = None
    affinity: Affinity | None = None
    diagnostics: dict[str, Any] = dataclasses.field(default_factory=dict)


def run_cell(cell: Cell, memo: Memo, progress: Progress, test: bool = True) -> tuple[Record, Proposal]:
    """Propose on one part of the examples, test on the other; ``test=False`` stops before ablation."""
    subject = load_subject(cell, memo, progress)
    batch = write_batch(cell, subject, memo, progress)
    proposal_half, test_half = split(cell, batch)
    proposal = propose(cell, subject, proposal_half, memo, progress)
    closures = dispose(cell, subject, test_half, proposal.candidates, progress) if test else ()
    return _record(cell, subject, batch, proposal, closures, progress), proposal


def propose(cell: Cell, subject: Subject, batch: Batch, memo: Memo, progress: Progress) -> Proposal:
    """recording -> activity -> spins -> affinity -> partitions -> candidates (or the group named by hand)."""
    if cell.settings.group:
        return Proposal((Candidate(subject.units.find(cell.settings.group)),))
    stages = cell.stages
    recording = record_batch(cell, subject, batch, ("signal", "labels"), memo, progress)
    with progress.step("proposal", cell.method), one_thread():
        labels = stages["labels"](recording)
        activity = stages["signal"](recording)
        spins = stages["binarizer"](activity)
        affinity = stages["affinity"](spins)
        partitions = tuple(stages["partitioner"](affinity))
        selection = stages["selector"](partitions, affinity, labels)
    agreement = tuple(a for a in (Agreement.of(partition, labels) for partition in partitions) if a)
    diagnostics = {"binarizer": dict(getattr(spins, "diagnostics", {})), "affinity": dict(affinity.diagnostics)}
    return Proposal(selection.candidates, selection.chosen_k, partitions, agreement, labels, affinity, diagnostics)


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
                    cell.metrics,
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
    """The batch, written in the subject's tokens and checked against it."""
    batch: Batch
    with progress.step("batch", cell.describe("batch")):
        key = (repr(cell.stages["subject"]), repr(cell.stages["batch"]))
        batch = memo.get("batch", key, lambda: cell.stages["batch"](subject))
        batch.check(subject)
    return batch


def split(cell: Cell, batch: Batch) -> tuple[Batch, Batch]:
    """The examples to propose on and those to test on. A group named by hand is tested on all of them."""
    if cell.settings.group or cell.settings.split == "none":
        return batch, batch
    return batch.halves(cell.settings.seed)


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


def keep_affinity(folder: Path, proposal: Proposal) -> None:
    """The affinity matrix and its picture, beside the record."""
    if proposal.affinity is None:
        return
    from safetensors.numpy import save_file

    from harness.board.picture import draw_affinity

    folder.mkdir(parents=True, exist_ok=True)
    save_file({"affinity": np.ascontiguousarray(proposal.affinity.matrix)}, folder / "affinity.safetensors")
    chosen = next((p for p in proposal.partitions if p.k == proposal.chosen_k), proposal.partitions[0])
    candidate = proposal.candidates[0].members if proposal.candidates else ()
    draw_affinity(proposal.affinity, chosen, candidate, folder / "affinity.png")


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
    batch: Batch,
    proposal: Proposal,
    closures: tuple[ClosureReport, ...],
    progress: Progress,
) -> Record:
    empty = not proposal.candidates
    reason = f"selector {cell.describe('selector')} found no group that qualifies{_sizes(proposal)}" if empty else ""
    source = {
        "subject": dict(subject.about),
        "batch": {"digest": batch.digest, "n": len(batch), "target": batch.target_kind, "notes": dict(batch.notes)},
    }
    return Record(
        status=Status.SKIPPED if empty else Status.OK,
        reason=reason,
        cell=_info(cell, subject.label, batch.target_kind),
        config=cell.config,
        provenance={**provenance(cell), **source},
        units=subject.units.labels,
        classes=proposal.labels.classes if proposal.labels else (),
        partitions=tuple(PartitionRecord(p.k, tuple(p.labels.tolist())) for p in proposal.partitions),
        chosen_k=proposal.chosen_k,
        agreement=proposal.agreement,
        candidates=tuple(_candidate(candidate, subject.units) for candidate in proposal.candidates),
        closure=closures,
        diagnostics=proposal.diagnostics,
        seconds={name: round(spent, 4) for name, spent in progress.seconds.items()},
    )


def _sizes(proposal: Proposal) -> str:
    """What there was to choose from, for whoever has to choose other numbers."""
    chosen = [partition for partition in proposal.partitions if partition.k == proposal.chosen_k]
    return "".join(f": k = {p.k} gave groups of {', '.join(str(len(g)) for g in p.groups())} units" for p in chosen)


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
    )


def _candidate(candidate: Candidate, units: UnitSpace) -> CandidateRecord:
    return CandidateRecord(
        units=tuple(units.names(candidate.members)),
        size=len(candidate.members),
        layers=tuple(sorted({int(units.layers[unit]) for unit in candidate.members})),
        k=candidate.k,
        purity=candidate.purity,
        isolation=candidate.isolation,
        score=candidate.score,
    )
