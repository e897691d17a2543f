"""The test of a cell's candidates: the trial that its configuration describes, and null proposals."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from harness.cells.inputs import Inputs
from harness.closure.selection import null_damage as damage_of
from harness.closure.trial import Trial
from harness.data.grouping import Labels
from harness.data.recording import Activity, Norm, Source
from harness.data.stages import inputs_of
from harness.proposal.null import null_groups
from harness.proposal.proposal import Proposal
from harness.util.threads import one_thread


def trial_of(inputs: Inputs, proposal: Proposal) -> Trial:
    """The trial of a cell: its examples, methods and settings, and what its controls are matched by."""
    settings, stages = inputs.cell.settings, inputs.cell.stages
    assert inputs.test_half is not None
    matched_by = inputs_of(type(stages["controls"]))
    return Trial(
        units=inputs.subject.units,
        evaluate=inputs.evaluate,
        batch=inputs.test_half,
        intervention=stages["intervention"],
        controls=stages["controls"],
        metrics=stages["metric"],
        alpha=settings.alpha,
        futility=settings.futility,
        ddof=settings.ddof,
        test=settings.test,
        statistic=settings.statistic,
        joint=settings.joint,
        check_task=settings.check_task,
        seed=settings.seed,
        reference=inputs.proposal_half,
        contrast=inputs.contrast,
        activity=_activity(inputs, proposal),
        rule=settings.active,
        scope="active" if settings.scope == "active" else "all",
        deciding=settings.deciding,
        stratum=inputs.stratum,
        in_stratum=bool(inputs.stratum) and settings.scope == "stratum",
        outside=inputs.outside,
        labels=_labels(inputs, proposal) if "labels" in matched_by else None,
        strength=_norms(inputs).mean(axis=0, dtype=np.float64) if "strength" in matched_by else None,
        usage=(_norms(inputs, "activation") > 0).mean(axis=0) if "usage" in matched_by else None,
    )


def null_damage(inputs: Inputs, proposal: Proposal, trial: Trial) -> list[float]:
    """Damage by the best groups of permuted data, where candidates were chosen on the examples they are tested on."""
    runs = inputs.cell.settings.permuted_runs
    if not runs or not proposal.has("measured"):
        return []
    with inputs.progress.step("null", f"{runs} proposals on permuted data") as tick:
        with one_thread():
            groups = null_groups(proposal, runs)
        return damage_of(groups, trial, tick)


def _activity(inputs: Inputs, proposal: Proposal) -> Activity | None:
    """The units' activity on the examples of the test. None: no signal is in use, or it reads no single recording."""
    signal = inputs.cell.stages["signal"]
    if "recording" not in inputs_of(type(signal)):
        return None
    by_hand = bool(inputs.cell.settings.group)
    if by_hand and inputs.cell.settings.scope != "active":
        return None
    if not by_hand and not proposal.has("measured"):
        return None
    if not by_hand and inputs.test_half is inputs.proposal_half:
        return proposal.measured
    assert inputs.test_half is not None
    activity: Activity = signal(inputs.record(inputs.test_half, {"signal": signal}))
    return activity


def _labels(inputs: Inputs, proposal: Proposal) -> Labels:
    """The proposal's labels. A group named by hand has none: they are computed from its test examples."""
    return proposal.labels if proposal.has("labels") else inputs.labels_of_units()


def _norms(inputs: Inputs, source: Source | None = None) -> Float[np.ndarray, "examples units"]:
    """The norm of what every unit writes to the residual stream or, where the subject has no such thing, hands on."""
    assert inputs.proposal_half is not None
    source = source or ("contribution" if "contribution" in inputs.subject.sources else "activation")
    norms: Float[np.ndarray, "examples units"] = inputs.record(
        inputs.proposal_half, {"controls": Norm(source)}
    ).readings["controls"]
    return norms
