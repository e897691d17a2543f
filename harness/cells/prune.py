"""Candidates without the units that they do not need, by ablations on the examples they were proposed on."""

from __future__ import annotations

from dataclasses import replace

from harness.cells.inputs import Inputs
from harness.cells.trial import trial_of
from harness.closure.outcomes import Outcomes
from harness.closure.prune import needed_units
from harness.data.grouping import Candidate
from harness.proposal.proposal import Proposal
from harness.util.errors import HarnessError


def prune(inputs: Inputs, proposal: Proposal) -> None:
    """Drop the dispensable units of every candidate. Candidates that become equal are one.

    Only the proposal half is used, so that the test half says how good the result is. Errors: a group named by hand;
    ``split=none``.
    """
    settings = inputs.cell.settings
    if settings.group or settings.split == "none":
        case = "a group named by hand" if settings.group else "split=none"
        raise HarnessError(
            f"prune=true drops units by ablation on the proposal half; with {case} there is none.",
            "Leave out prune=true. The card of the test names the units that can be spared.",
        )
    assert inputs.proposal_half is not None
    activity = proposal.measured if proposal.has("measured") else None
    trial = replace(trial_of(inputs, proposal), batch=inputs.proposal_half, activity=activity)
    kept: dict[tuple[int, ...], Candidate] = {}
    with inputs.progress.step("prune", f"{len(proposal.candidates)} candidates, {len(trial.batch)} examples") as tick:
        outcomes = Outcomes(trial, tick)
        for candidate in proposal.candidates:
            members = needed_units(candidate.members, outcomes)
            dropped = tuple(unit for unit in candidate.members if unit not in members)
            kept.setdefault(members, replace(candidate, members=members, pruned=dropped))
    proposal.steps["candidates"] = tuple(kept.values())
