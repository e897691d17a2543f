"""One cell, from its subject to its record."""

from __future__ import annotations

from typing import Any

from harness.cells.cell import Cell
from harness.cells.fit import fit_of
from harness.cells.inputs import Inputs
from harness.cells.progress import Progress
from harness.cells.refine import refine
from harness.cells.result import CellResult
from harness.cells.selectivity import selectivity_of
from harness.cells.size_curve import size_curve_of
from harness.cells.strata import Division
from harness.cells.trial import null_damage, trial_of
from harness.closure.cases import cases_of, conditions
from harness.closure.report import CandidateResult, judge, measure
from harness.proposal.proposal import Proposal
from harness.records.record import GROWN
from harness.util.cache import Memo
from harness.util.memory import forget_peak, peak
from harness.util.threads import one_thread


def run_cell(cell: Cell, memo: Memo, progress: Progress, test: bool = True) -> CellResult:
    """Propose on one half of the examples and test on the other. ``test=False`` stops before ablation.

    Errors: all errors that make the cell invalid. A cell that cannot be tested is refused before anything is proposed.
    """
    forget_peak()
    inputs = Inputs.gather(cell, memo, progress, test)
    division = Division.of(inputs)
    parts, tested = [], []
    grown: dict[str, Any] = {}
    for part in division.parts:  # one, unless the cell divides its examples
        proposal = propose(part)
        parts.append((part, proposal))
        if test:
            grown |= refine(part, proposal)
        if test and proposal.candidates:
            tested += dispose(part, proposal)
    curve = size_curve_of(*parts[0]) if test else None
    null = division.null([proposal for _, proposal in parts])
    progress.spend(**peak())
    judged = judge(tested, cell.settings.alpha)
    selective = selectivity_of(division, [part for part, _ in parts], judged)
    diagnostics = {**selective, **fit_of(inputs, judged), **({GROWN: grown} if grown else {})}
    return CellResult.of(parts, judged, curve, division.described(test), null, diagnostics)


def propose(inputs: Inputs) -> Proposal:
    """recording -> activity -> spins -> affinity -> partitions -> candidates.

    A stage that no other stage asks for is left out. A group named by hand is its own proposal.
    """
    cell, units = inputs.cell, inputs.subject.units
    if cell.settings.group:
        return Proposal.by_hand(units, units.find(cell.settings.group), inputs.stratum)
    proposal = proposal_of(inputs)
    with inputs.progress.step("proposal", cell.method), one_thread():
        proposal.run()
    return proposal


def proposal_of(inputs: Inputs) -> Proposal:
    """The proposal of a cell, with what its first steps need. Every step is computed when it is first used."""
    return Proposal(
        stages=inputs.cell.stages,
        units=inputs.subject.units,
        inputs={
            "truth": inputs.subject.truth,
            "batch": inputs.proposal_half,
            "recording": inputs.recording(),
            "history": inputs.history(),
            "strata": inputs.covariates,
        },
        reruns=inputs.cell.settings.reruns,
        seed=inputs.cell.settings.seed,
        cache=inputs.memo.disk,
        stratum=inputs.stratum,
        labels=inputs.labels,
    )


def dispose(inputs: Inputs, proposal: Proposal) -> list[CandidateResult]:
    """The closure test of every candidate, without verdicts: these depend on all candidates of the cell."""
    trial = trial_of(inputs, proposal)
    null = null_damage(inputs, proposal, trial)
    cases = cases_of([candidate.members for candidate in proposal.candidates], trial)
    groups = len(conditions(cases))  # at most: a candidate may be stopped early
    evaluations = groups * len(trial.batch) + ((1 + len(cases)) * len(trial.contrast) if trial.contrast else 0)
    evaluations += sum(2 + case.n for case in cases) * len(trial.outside) if trial.outside else 0
    with inputs.progress.step("closure", f"{groups} groups, {len(trial.batch)} examples", evaluations) as tick:
        return measure(cases, trial, tick, null)
