"""The result of a cell: its record, and the arrays that are written beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.cells.cell import Cell
from harness.cells.group_figures import group_figures
from harness.cells.group_quality import FILE, Quality, measure
from harness.cells.inputs import Inputs
from harness.cells.known_circuits import found_of_known
from harness.cells.most_active import most_active
from harness.cells.predictions import Outputs, example_predictions, most_likely_outputs
from harness.cells.progress import Progress
from harness.cells.provenance import provenance, without_password
from harness.closure.report import CandidateResult
from harness.closure.size_curve import SizeCurve
from harness.data.batch import Batch
from harness.data.grouping import Candidate
from harness.data.recording import Spins
from harness.data.units import UnitSpace
from harness.proposal.proposal import Proposal
from harness.proposal.strata_null import StrataNull
from harness.records.record import (
    COMPLETENESS,
    QUALITY,
    CandidateRecord,
    CellInfo,
    PartitionRecord,
    Record,
    Status,
    StratumRecord,
    group_key,
)
from harness.records.workspace import atomically


@dataclass(frozen=True)
class CellResult:
    """The results of a cell: its record, and the arrays that are too large for a record."""

    record: Record
    proposals: tuple[Proposal, ...]
    tested: tuple[CandidateResult, ...]
    quality: Quality

    @classmethod
    def of(
        cls,
        parts: Sequence[tuple[Inputs, Proposal]],
        tested: tuple[CandidateResult, ...],
        size_curve: SizeCurve | None = None,
        strata: tuple[StratumRecord, ...] = (),
        strata_null: StrataNull | None = None,
        diagnostics: Mapping[str, Any] | None = None,
    ) -> CellResult:
        """The result of a cell that reached its end. Its status is skipped where nothing qualified as a candidate.

        ``diagnostics``: in addition to those of the stages.
        """
        inputs, first = parts[0]
        cell, subject, batch, progress = inputs.cell, inputs.subject, inputs.batch, inputs.progress
        proposals = tuple(proposal for _, proposal in parts)
        results = {(result.report.stratum, result.report.units): result for result in tested}
        candidates = [candidate for part in parts for candidate in _candidates(*part, results)]
        units = subject.units
        proposed = first.has("raw_partitions")
        quality = measure(inputs, first)
        step = cell.stages["subject"].step()
        record = Record(
            status=Status.OK if candidates else Status.SKIPPED,
            reason="" if candidates else _why_nothing(cell, first),
            cell=_info(cell, subject.label, batch.target_kind if batch else "none", inputs.examples),
            config=_shown(cell),
            provenance={
                **provenance(cell),
                **({} if step is None else {"step": step}),
                "subject": dict(subject.about),
                "batch": _about(batch) if batch else {},
            },
            units=units.labels,
            sites=units.runs,
            classes=first.labels.classes if proposed else (),
            partitions=tuple(p for proposal in proposals for p in _partitions(proposal)) if proposed else (),
            candidates=tuple(candidates),
            closure=tuple(closure.report for closure in tested),
            unit_damage=_unit_damage(cell, units, tested) if len(parts) == 1 else {},
            size_curve=size_curve,
            strata=strata,
            strata_null=strata_null,
            diagnostics={
                **(_diagnostics(first) if proposed else {}),
                **({QUALITY: dict(quality.figures)} if quality.figures else {}),
                **group_figures(inputs, first),
                **_completeness(tested),
                **(diagnostics or {}),
                **(found_of_known(subject, proposals, [closure.report for closure in tested]) if proposed else {}),
            },
            seconds={name: round(seconds, 4) for name, seconds in progress.seconds.items()},
            cost=dict(progress.cost),
        )
        return cls(record, proposals, tested, quality)


def _completeness(tested: Sequence[CandidateResult]) -> dict[str, Any]:
    found = {group_key(result.report.units, result.report.stratum): result.completeness for result in tested}
    shown = {key: dict(by_metric) for key, by_metric in found.items() if by_metric}
    return {COMPLETENESS: shown} if shown else {}


def _unit_damage(cell: Cell, units: UnitSpace, tested: Sequence[CandidateResult]) -> Mapping[str, Mapping[str, float]]:
    """By metric and unit: the damage of every unit that was ablated alone."""
    changes = {unit: change for result in tested for unit, change in result.single_units.items()}
    return {
        metric.name: {units.labels[unit]: float(metric.damage * changes[unit][m]) for unit in sorted(changes)}
        for m, metric in enumerate(cell.stages["metric"])
        if changes
    }


def unfinished(cell: Cell, status: Status, reason: str, progress: Progress) -> Record:
    """The record of a cell that did not reach its end."""
    info = _info(cell, cell.describe("subject"), "unknown", cell.describe("batch"))
    return Record(status, reason, info, _shown(cell), provenance(cell), seconds=progress.seconds)


def write_arrays(result: CellResult, folder: Path) -> None:
    """Write the arrays beside the record: the affinity, correlations, and the change of every metric per example."""
    for proposal in result.proposals:
        if proposal.has("affinity"):
            name = f"affinity.{proposal.stratum}" if proposal.stratum else "affinity"
            _save(proposal.affinity.arrays(), folder / f"{name.replace('/', '_')}.safetensors")
    if result.quality.arrays:
        _save(dict(result.quality.arrays), folder / FILE)
    if result.tested:
        deltas = {f"candidate.{i}": closure.deltas.astype(np.float32) for i, closure in enumerate(result.tested)}
        axes = {"axes": "metrics, groups (the candidate, then its controls), examples"}
        _save(deltas, folder / "deltas.safetensors", axes)


def _save(arrays: dict[str, np.ndarray], path: Path, about: dict[str, str] | None = None) -> None:
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    with atomically(path) as beside:
        try:
            save_file(arrays, beside, about)
        except SafetensorError as error:  # its form of a full disk
            raise OSError(str(error)) from error


def _about(batch: Batch) -> dict[str, Any]:
    return {"digest": batch.digest, "n": len(batch), "target": batch.target_kind, "notes": dict(batch.notes)}


def _shown(cell: Cell) -> dict[str, Any]:
    """The configuration, without the password of a tracking server: records are shared."""
    return {**cell.config, "tracking": without_password(cell.settings.tracking)}


def _partitions(proposal: Proposal) -> list[PartitionRecord]:
    return [
        PartitionRecord(
            name=partition.name,
            k=partition.k,
            groups=len(partition.groups()),
            labels=tuple(partition.labels.tolist()),
            chosen=partition is proposal.partition,
            stratum=proposal.stratum,
            quality=quality,
            agreement=agreement,
            stability=partition.stability,
            diagnostics=dict(partition.diagnostics),
        )
        for partition, quality, agreement in zip(
            proposal.partitions, proposal.quality, proposal.agreement(), strict=True
        )
    ]


def _diagnostics(proposal: Proposal) -> dict[str, Any]:
    """The diagnostics of every step that was computed."""
    by_stage: dict[str, Any] = {}
    if proposal.has("measured") and (notes := proposal.measured.diagnostics):
        by_stage["signal"] = notes
    if proposal.has("observations") and isinstance(proposal.observations, Spins):
        by_stage["binarizer"] = dict(proposal.observations.diagnostics)
    if proposal.has("affinity"):
        by_stage["affinity"] = dict(proposal.affinity.diagnostics)
    if notes := dict(proposal.partition.diagnostics):
        by_stage["partitioner"] = notes
    if left_out := _left_out(proposal):
        by_stage["selector"] = {"left_out": left_out}
    return by_stage


def _left_out(proposal: Proposal) -> str:
    """How many groups do not qualify because they cannot be ablated; empty if all can be."""
    n = len(proposal.not_ablatable)
    return f"{n} group{'s' * (n > 1)} with more units of a site than can be ablated together" if n else ""


def _why_nothing(cell: Cell, proposal: Proposal) -> str:
    """Why there is no candidate, and what to change."""
    if proposal.trivial:
        tried = ", ".join(partition.name for partition in proposal.raw_partitions)
        found = {len(group) for partition in proposal.raw_partitions for group in partition.groups()}
        outcomes = {len(proposal.units): "all units are in one group", 1: "every unit is alone"}
        how = " or ".join(words for size, words in outcomes.items() if size in found) or "no unit is in a group"
        fix = (
            "Ask for another number of groups (k, resolution), or choose an affinity that separates units more sharply "
            "(affinity=pearson_knn)."
            if "affinity" in cell.proposing
            else "Change the partitioner's parameters, or choose another signal."
        )
        return f"partitioner {cell.describe('partitioner')} found no groups ({tried}): {how}. {fix}"
    sizes = ", ".join(str(len(group)) for group in proposal.partition.groups())
    outcome = f"{proposal.partition.name} gave groups of {sizes} units"
    left_out = _left_out(proposal)
    return f"selector {cell.describe('selector')} found no group that qualifies: {outcome}" + (
        f"; among them {left_out}" if left_out else ""
    )


def _info(cell: Cell, subject: str, target: str, examples: str) -> CellInfo:
    return CellInfo(
        id=cell.id,
        row=cell.row,
        protocol=cell.protocol,
        title=cell.title,
        method=cell.method,
        subject=subject,
        batch=examples,
        target=target,
        intervention=cell.describe("intervention"),
        supervised=cell.supervised,
    )


Results = Mapping[tuple[str, tuple[str, ...]], CandidateResult]
"""The results of tests, by stratum and labels of the candidate."""


def _candidates(inputs: Inputs, proposal: Proposal, results: Results) -> list[CandidateRecord]:
    """The candidates of a stratum, or of all examples."""
    outputs = most_likely_outputs(inputs, [c.members for c in proposal.candidates]) if results else {}
    return [_candidate(candidate, inputs, proposal, results, outputs) for candidate in proposal.candidates]


def _candidate(
    candidate: Candidate, inputs: Inputs, proposal: Proposal, results: Results, outputs: Outputs
) -> CandidateRecord:
    units = inputs.subject.units
    names = tuple(units.names(candidate.members))
    of_group, of_units = most_active(inputs, proposal, candidate)
    result = results.get((proposal.stratum, names))
    return CandidateRecord(
        units=names,
        size=len(candidate.members),
        sites=units.sites_of(candidate.members),
        purity=candidate.purity,
        isolation=candidate.isolation,
        score=candidate.score,
        stability=candidate.stability,
        pruned=tuple(units.names(candidate.pruned)),
        stratum=proposal.stratum,
        most_active=of_group,
        unit_most_active=of_units,
        examples=example_predictions(inputs, candidate.members, result.deltas[0, 0], outputs) if result else (),
    )
