"""How well the constants of an intervention were fitted: the loss with one unit ablated, before and after the fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from harness.cells.inputs import Inputs
from harness.closure.report import CandidateResult
from harness.data.contracts import no_tick
from harness.data.fitting import TargetLoss, fits
from harness.records.record import FIT


def fit_of(inputs: Inputs, tested: Sequence[CandidateResult]) -> dict[str, Any]:
    """Steps, examples, and the mean loss on these with one unit of the candidates ablated by its mean and its constant.

    Empty for an intervention without fitted constants.
    """
    intervention = inputs.cell.stages["intervention"]
    if not fits(intervention) or not tested:
        return {}
    over = inputs.proposal_half if intervention.over == "reference" else inputs.test_half
    assert over is not None
    units = inputs.subject.units.find(list(dict.fromkeys(label for each in tested for label in each.report.units)))
    alone = [(unit,) for unit in units]
    with inputs.progress.step("fit", f"{len(units)} units"):
        before, after = (
            float(inputs.evaluate(over, alone, rule, [TargetLoss()], no_tick, over).mean())
            for rule in (replace(intervention, steps=0), intervention)
        )
    about = {"steps": intervention.steps, "examples": len(over), "loss_by_mean": before, "loss": after}
    return {FIT: about}
