"""Candidates with the units that they lack, without those that they do not need: by ablation on the proposal half."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from harness.cells.inputs import Inputs
from harness.cells.trial import trial_of
from harness.closure.grow import Added, grown
from harness.closure.outcomes import Outcomes
from harness.closure.prune import needed_units
from harness.closure.trial import Trial
from harness.data.grouping import Candidate
from harness.data.sampling import Group
from harness.data.units import UnitSpace
from harness.proposal.proposal import Proposal
from harness.records.record import group_key
from harness.util.errors import HarnessError


def refine(inputs: Inputs, proposal: Proposal) -> dict[str, Any]:
    """Grow every candidate, then prune it, as the cell asks. Candidates that become equal are one.

    Only the proposal half is used, so that the test half says how good the result is. Returns what was added, for the
    record's diagnostics. Errors: a group named by hand; ``split=none``.
    """
    settings = inputs.cell.settings
    if not settings.grow and not settings.prune:
        return {}
    _check(inputs)
    assert inputs.proposal_half is not None
    activity = proposal.measured if proposal.has("measured") else None
    trial = replace(trial_of(inputs, proposal), batch=inputs.proposal_half, activity=activity)
    units = inputs.subject.units
    proposed = [candidate.members for candidate in proposal.candidates]
    added = _grown(proposed, trial, inputs) if settings.grow else [()] * len(proposed)
    grown_groups = [
        tuple(sorted((*group, *(each.unit for each in found)))) for group, found in zip(proposed, added, strict=True)
    ]
    members = _pruned(grown_groups, trial, inputs) if settings.prune else grown_groups
    distinct: dict[Group, tuple[Candidate, list[Added]]] = {}
    for candidate, group, found in zip(proposal.candidates, members, added, strict=True):
        dropped = tuple(unit for unit in candidate.members if unit not in group)
        refined = proposal.described(replace(candidate, members=group, pruned=dropped, purity=None, isolation=None))
        distinct.setdefault(group, (refined, [each for each in found if each.unit in group]))
    proposal.steps["candidates"] = tuple(candidate for candidate, _ in distinct.values())
    return {
        group_key(units.names(group), inputs.stratum): [_shown(each, units) for each in found]
        for group, (_, found) in distinct.items()
        if found
    }


def _check(inputs: Inputs) -> None:
    settings = inputs.cell.settings
    if settings.group or settings.split == "none":
        word, does = (f"grow={settings.grow}", "adds") if settings.grow else ("prune=true", "drops")
        case = "a group named by hand" if settings.group else "split=none"
        raise HarnessError(
            f"{word} {does} units by ablation on the proposal half; with {case} there is none.",
            f"Leave out {word}. The card of the test names the units that can be spared.",
        )


def _grown(groups: Sequence[Group], trial: Trial, inputs: Inputs) -> list[tuple[Added, ...]]:
    most = inputs.cell.settings.grow
    what = f"up to {most} units for each of {len(groups)} candidates, {len(trial.batch)} examples"
    with inputs.progress.step("grow", what) as tick:
        outcomes = Outcomes(trial, tick)
        return [grown(group, outcomes, most) for group in groups]


def _pruned(groups: Sequence[Group], trial: Trial, inputs: Inputs) -> list[Group]:
    with inputs.progress.step("prune", f"{len(groups)} candidates, {len(trial.batch)} examples") as tick:
        outcomes = Outcomes(trial, tick)
        return [needed_units(group, outcomes) for group in groups]


def _shown(added: Added, units: UnitSpace) -> dict[str, Any]:
    return {"unit": units.labels[added.unit], "gain": added.gain, "interval": list(added.interval)}
