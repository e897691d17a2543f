"""One cell, top to bottom: what is proposed, how it is put to the test, and the record that comes of it."""

from __future__ import annotations

import traceback
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from harness.cells import result as written
from harness.cells.ablations import Remembering
from harness.cells.cell import Cell
from harness.cells.inputs import Halves, load_subject, readers_of, record_batch, subject_key
from harness.cells.progress import Progress
from harness.cells.result import Outcome
from harness.closure.report import CandidateResult, close
from harness.closure.selection import null_damage
from harness.closure.trial import Trial, cases_of, conditions
from harness.data.batch import Batch
from harness.data.grouping import Candidate, Labels
from harness.data.recording import Activity, OutputNorm, Reader, Recording
from harness.data.stages import Subject, inputs_of
from harness.proposal.null import null_groups
from harness.proposal.proposal import Proposal
from harness.records.record import Record, Status
from harness.records.workspace import Workspace
from harness.registry.hookspecs import CellFinished
from harness.registry.plugins import Plugins
from harness.util.cache import Memo
from harness.util.errors import HarnessError
from harness.util.memory import forget_peak, peak
from harness.util.threads import one_thread

NULL_PROPOSALS = 99  # of a cell that tests on the examples it proposed on


def run_cell(cell: Cell, memo: Memo, progress: Progress, test: bool = True) -> Outcome:
    """Propose on one part of the examples, test on the other; ``test=False`` stops before ablation.

    A group named by hand is not proposed.
    """
    forget_peak()
    subject = load_subject(cell, memo, progress)
    halves = Halves(cell, subject, memo, progress)
    if test:
        _ = halves.test  # what cannot be tested is refused before anything is computed
    proposal = None if cell.settings.group else propose(cell, subject, halves, memo, progress)
    candidates = proposal.candidates if proposal else (Candidate(subject.units.find(cell.settings.group)),)
    tested = dispose(cell, subject, halves, proposal, candidates, memo, progress) if test and candidates else ()
    progress.spend(**peak())
    record = written.record_of(cell, subject, halves, proposal, candidates, [of.report for of in tested], progress)
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
        subject.truth,
        memo.disk,
    )
    if any("recording" in inputs_of(method.cls) for stage in looking for method in cell.methods[stage]):
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
) -> tuple[CandidateResult, ...]:
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

    needed = inputs_of(type(stages["controls"]))
    trial = Trial(
        units=subject.units,
        evaluate=Remembering(subject, subject_key(cell, subject, memo), memo, progress).evaluate,
        batch=halves.test,
        intervention=stages["intervention"],
        controls=stages["controls"],
        metrics=stages["metric"],
        alpha=told.alpha,
        futility=told.futility,
        ddof=told.ddof,
        seed=told.seed,
        reference=halves.proposal,
        contrast=halves.contrast,
        activity=_activity(cell, subject, halves, proposal, memo, progress),
        rule=told.active,
        labels=labels() if "labels" in needed else None,
        strength=strength() if "strength" in needed else None,
    )
    null = _null(cell, proposal, trial, progress)
    cases = cases_of([candidate.members for candidate in candidates], trial)
    groups = len(conditions(cases))  # at most: candidates may be given up
    evaluations = groups * len(trial.batch) + ((1 + len(cases)) * len(trial.contrast) if trial.contrast else 0)
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
        written.keep(outcome, workspace.folder(cell.id))
    except HarnessError as error:
        record = written.unfinished(cell, Status.INVALID, str(error), progress)
    except KeyboardInterrupt as error:
        interrupt, record = error, written.unfinished(cell, Status.INTERRUPTED, "stopped by the user", progress)
    except Exception as error:  # a method's own failure: the cell fails, the sweep goes on
        trace = traceback.format_exc()
        reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        record = written.unfinished(cell, Status.FAILED, reason, progress)
    folder = workspace.write(record, trace)
    announce(CellFinished(record, folder), plugins, progress)
    if interrupt:
        raise interrupt
    return record


def announce(event: CellFinished, plugins: Plugins, progress: Progress) -> None:
    """Tell every watcher; one that fails is reported, and the record stands."""
    for implementation in plugins.manager.hook.harness_cell_finished.get_hookimpls():
        try:
            implementation.function(**dict.fromkeys(implementation.argnames, event))
        except Exception as error:
            progress.say(f"  warning: {implementation.plugin_name}: {type(error).__name__}: {error}")
