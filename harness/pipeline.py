"""One cell, top to bottom: what is proposed, how it is put to the test, and the record that comes of it."""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float

from harness.batch import Batch
from harness.cache import Cache, Entry, Memo
from harness.cell import Cell
from harness.closure.case import Trial, cases_of, conditions
from harness.closure.selection import null_damage, null_groups
from harness.closure.trial import ClosureReport, Tested, close
from harness.errors import HarnessError
from harness.groups import Candidate, Labels
from harness.hookspecs import CellFinished
from harness.identity import code_of, content
from harness.outcomes import Remembering
from harness.plugins import Plugins
from harness.progress import Progress
from harness.proposal import Proposal
from harness.provenance import provenance, without_password
from harness.record import CandidateRecord, CellInfo, PartitionRecord, Record, Status
from harness.recording import Activity, Reader, Recording, Rows, Source, Spins
from harness.shared import Halves, load_subject, readers_of, record_batch, subject_key
from harness.stages import Subject, asked
from harness.threads import one_thread
from harness.units import UnitSpace
from harness.workspace import Workspace, atomically

NULL_PROPOSALS = 99  # of a cell that tests on the examples it proposed on


@dataclass(frozen=True)
class Outcome:
    """What a cell leaves: its record, and what is too large for it. A group named by hand has no proposal."""

    record: Record
    proposal: Proposal | None
    tested: tuple[Tested, ...]


def run_cell(cell: Cell, memo: Memo, progress: Progress, test: bool = True) -> Outcome:
    """Propose on one part of the examples, test on the other; ``test=False`` stops before ablation.

    A group named by hand is not proposed.
    """
    subject = load_subject(cell, memo, progress)
    halves = Halves(cell, subject, memo, progress)
    if test:
        _ = halves.test  # what cannot be tested is refused before anything is computed
    proposal = None if cell.settings.group else propose(cell, subject, halves, memo, progress)
    candidates = proposal.candidates if proposal else (Candidate(subject.units.find(cell.settings.group)),)
    tested = dispose(cell, subject, halves, proposal, candidates, memo, progress) if test and candidates else ()
    record = _record(cell, subject, halves, proposal, candidates, tuple(t.report for t in tested), progress)
    return Outcome(record, proposal, tested)


def propose(cell: Cell, subject: Subject, halves: Halves, memo: Memo, progress: Progress) -> Proposal:
    """recording -> activity -> spins -> affinity -> partitions -> candidates, as far as the methods ask for them."""
    looking = [stage for stage in ("signal", "labels") if stage == "labels" or stage in cell.proposing]

    def record(batch: Batch) -> Recording:
        return record_batch(cell, subject, batch, readers_of(cell, *looking), memo, progress)

    proposal = Proposal(
        cell.stages,
        subject.units,
        lambda: halves.proposal,
        record,
        cell.settings.reruns,
        cell.settings.seed,
        getattr(subject, "truth", None),
        memo.disk,
    )
    if any("recording" in asked(method.cls) for stage in looking for method in cell.methods[stage]):
        _ = proposal.recording  # a step of its own, with its own time
    with progress.step("proposal", cell.method), one_thread():
        _ = proposal.labels, proposal.candidates
    return proposal


def dispose(
    cell: Cell,
    subject: Subject,
    halves: Halves,
    proposal: Proposal | None,
    candidates: Sequence[Candidate],
    memo: Memo,
    progress: Progress,
) -> tuple[Tested, ...]:
    """The closure test of every candidate, on examples that were not used to propose it."""
    told, stages = cell.settings, cell.stages

    def record(readers: Mapping[str, Reader]) -> Recording:
        return record_batch(cell, subject, halves.proposal, readers, memo, progress)

    def labels() -> Labels:
        if proposal:
            return proposal.labels
        known: Labels = stages["labels"](record(readers_of(cell, "labels")))
        return known

    def strength() -> Float[np.ndarray, " units"]:
        norms = record({"strength": OutputNorm()}).readings["strength"]
        mean: Float[np.ndarray, " units"] = norms.mean(axis=0, dtype=np.float64)
        return mean

    trial = Trial(
        subject=Remembering(subject, subject_key(cell, subject, memo), memo, progress),
        batch=halves.test,
        intervention=stages["intervention"],
        controls=stages["controls"],
        metrics=stages["metric"],
        alpha=told.alpha,
        give_up=told.give_up,
        ddof=told.ddof,
        seed=told.seed,
        reference=halves.proposal,
        elsewhere=halves.elsewhere,
        activity=_activity(cell, subject, halves, proposal, memo, progress),
        rule=told.active,
        labels=labels,
        strength=strength,
    )
    null = _null(cell, proposal, trial, progress)
    cases = cases_of([candidate.members for candidate in candidates], trial)
    groups = len(conditions(cases))  # at most: candidates may be given up
    evaluations = groups * len(trial.batch) + ((1 + len(cases)) * len(trial.elsewhere) if trial.elsewhere else 0)
    with progress.step("closure", f"{groups} groups, {len(trial.batch)} examples", total=evaluations) as tick:
        return close(cases, trial, tick, null)


def _activity(
    cell: Cell, subject: Subject, halves: Halves, proposal: Proposal | None, memo: Memo, progress: Progress
) -> Activity | None:
    """Where units are active on the examples of the test; None where no signal is in use."""
    if proposal is None or "signal" not in cell.proposing:
        return None
    if halves.test is halves.proposal:
        return proposal.measured
    readers = readers_of(cell, "signal")
    activity: Activity = cell.stages["signal"](record_batch(cell, subject, halves.test, readers, memo, progress))
    return activity


def _null(cell: Cell, proposal: Proposal | None, trial: Trial, progress: Progress) -> list[float]:
    """Damage by the best groups of permuted data, where candidates were chosen on the examples they are tested on."""
    told = cell.settings
    n = told.null_proposals
    if n is None:
        n = NULL_PROPOSALS if told.split == "none" else 0
    if proposal is None or not proposal.has("measured") or not n:
        return []
    with progress.step("null", f"{n} proposals on permuted data") as tick:
        with one_thread():
            groups = null_groups(proposal, n)
        return null_damage(groups, trial, tick)


@dataclass(frozen=True)
class OutputNorm:
    """Norm of what each unit writes to the residual stream: what controls may be matched by."""

    source: ClassVar[Source] = "contribution"

    def read(self, rows: Rows) -> Float[np.ndarray, "examples heads"]:
        """One number per example and head."""
        norms: Float[np.ndarray, "examples heads"] = np.linalg.norm(rows.values, axis=2)
        return norms


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
        outcome = run_cell(cell, memo, progress)
        record = outcome.record
        record.to_json()  # diagnostics that JSON cannot hold fail the cell here, not its writing below
        keep_affinity(workspace.folder(cell.id), outcome.proposal, memo.disk)
        keep_deltas(workspace.folder(cell.id), outcome)
    except HarnessError as error:
        record = _unfinished(cell, Status.INVALID, str(error), progress)
    except KeyboardInterrupt as error:
        interrupt, record = error, _unfinished(cell, Status.INTERRUPTED, "stopped by the user", progress)
    except Exception as error:  # a method's own failure: the cell fails, the sweep goes on
        trace = traceback.format_exc()
        reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        record = _unfinished(cell, Status.FAILED, reason, progress)
    folder = workspace.write(record, trace)
    announce(CellFinished(record, folder), plugins, progress)
    if interrupt:
        raise interrupt
    return record


def keep_affinity(folder: Path, proposal: Proposal | None, cache: Cache) -> None:
    """The affinity matrix and its picture, beside the record; nothing where no method asked for an affinity."""
    if proposal is None or not proposal.has("affinity"):
        return
    from safetensors.numpy import save_file

    arrays = proposal.affinity.arrays()
    with atomically(folder / "affinity.safetensors") as beside:
        save_file(arrays, beside)
    candidate = proposal.candidates[0].members if proposal.candidates else ()
    picture = folder / "affinity.png"
    key = content(code_of("harness.board.picture"), arrays, proposal.units, proposal.partition.labels, candidate)
    if kept := cache.read("picture", key):
        with atomically(picture) as beside:
            beside.write_bytes(kept.arrays["png"].tobytes())
        return
    from harness.board.picture import draw_affinity

    with atomically(picture) as beside:
        draw_affinity(proposal.affinity, proposal.partition, candidate, beside)
    cache.write("picture", key, Entry({"png": np.frombuffer(picture.read_bytes(), dtype=np.uint8)}))


def keep_deltas(folder: Path, outcome: Outcome) -> None:
    """The change of every metric on every example, beside the record: the candidate's, then its controls'."""
    if not outcome.tested:
        return
    from safetensors.numpy import save_file

    deltas = {f"candidate.{i}": tested.deltas.astype(np.float32) for i, tested in enumerate(outcome.tested)}
    with atomically(folder / "deltas.safetensors") as beside:
        save_file(deltas, beside, {"axes": "metrics, groups (the candidate, then its controls), examples"})


def announce(event: CellFinished, plugins: Plugins, progress: Progress) -> None:
    """Tell every watcher; one that fails is reported, and the record stands."""
    for implementation in plugins.manager.hook.harness_cell_finished.get_hookimpls():
        try:
            implementation.function(**dict.fromkeys(implementation.argnames, event))
        except Exception as error:
            progress.say(f"  warning: {implementation.plugin_name}: {type(error).__name__}: {error}")


def _unfinished(cell: Cell, status: Status, reason: str, progress: Progress) -> Record:
    info = _info(cell, cell.describe("subject"), "unknown")
    return Record(status, reason, info, _shown(cell), provenance(cell), seconds=progress.seconds)


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
        config=_shown(cell),
        provenance={**provenance(cell), "subject": dict(subject.about), "batch": written},
        units=subject.units.labels,
        classes=proposal.labels.classes if proposal else (),
        partitions=_partitions(proposal) if proposal else (),
        chosen=proposal.chosen if proposal else None,
        candidates=tuple(_candidate(candidate, subject.units) for candidate in candidates),
        closure=closures,
        diagnostics=_diagnostics(proposal) if proposal else {},
        seconds={name: round(spent, 4) for name, spent in progress.seconds.items()},
        cost=dict(progress.cost),
    )


def _shown(cell: Cell) -> dict[str, Any]:
    """The configuration, without the password of a tracking server: records are given away."""
    return {**cell.config, "tracking": without_password(cell.settings.tracking)}


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
        stability=candidate.stability,
    )
