"""What of a cell is written down: its record, and beside it what is too large for one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.cells.cell import Cell
from harness.cells.inputs import Halves
from harness.cells.progress import Progress
from harness.cells.provenance import provenance, without_password
from harness.closure.report import CandidateResult, ClosureReport
from harness.data.grouping import Candidate
from harness.data.recording import Spins
from harness.data.stages import Subject
from harness.data.units import UnitSpace
from harness.proposal.proposal import Proposal
from harness.records.record import CandidateRecord, CellInfo, PartitionRecord, Record, Status
from harness.records.workspace import atomically


@dataclass(frozen=True)
class Outcome:
    """What a cell leaves: its record, and what is too large for it. A group named by hand has no proposal."""

    record: Record
    proposal: Proposal | None
    tested: tuple[CandidateResult, ...]


def record_of(
    cell: Cell,
    subject: Subject,
    halves: Halves,
    proposal: Proposal | None,
    candidates: Sequence[Candidate],
    closures: Sequence[ClosureReport],
    progress: Progress,
) -> Record:
    """The record of a cell that came to its end; skipped where it found nothing to test."""
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
        closure=tuple(closures),
        diagnostics=_diagnostics(proposal) if proposal else {},
        seconds={name: round(spent, 4) for name, spent in progress.seconds.items()},
        cost=dict(progress.cost),
    )


def unfinished(cell: Cell, status: Status, reason: str, progress: Progress) -> Record:
    """The record of a cell that did not come to its end."""
    info = _info(cell, cell.describe("subject"), "unknown")
    return Record(status, reason, info, _shown(cell), provenance(cell), seconds=progress.seconds)


def keep(outcome: Outcome, folder: Path) -> None:
    """Write beside the record what is too large for it; nothing of a stage that was not asked."""
    from safetensors.numpy import save_file

    if outcome.proposal and outcome.proposal.has("affinity"):
        with atomically(folder / "affinity.safetensors") as beside:
            save_file(outcome.proposal.affinity.arrays(), beside)
    if outcome.tested:
        _keep_deltas(folder, outcome.tested)


def _keep_deltas(folder: Path, tested: Sequence[CandidateResult]) -> None:
    """The change of every metric on every example: a candidate's, then its controls'."""
    from safetensors.numpy import save_file

    deltas = {f"candidate.{i}": of.deltas.astype(np.float32) for i, of in enumerate(tested)}
    with atomically(folder / "deltas.safetensors") as beside:
        save_file(deltas, beside, {"axes": "metrics, groups (the candidate, then its controls), examples"})


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
