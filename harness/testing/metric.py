"""Checks of metrics: one number for each example, with a direction of damage."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import torch

from harness.data.prediction import Prediction
from harness.testing.checks import Check, contents, judge_refusal, require, usual_checks
from harness.util.errors import HarnessError

ROWS, VOCABULARY = 8, 11
GOOD, BAD = 20.0, -20.0


def _prediction(plugin: Any, shift: float = 0.0) -> dict[str, Prediction]:
    """Random logits, the target's shifted by ``shift``. The baseline is certain of the target.

    Targets are classes; for a metric that refuses them, they are all right outputs.
    """
    logits = torch.randn((ROWS, VOCABULARY), generator=torch.Generator().manual_seed(0))
    rows, target = torch.arange(ROWS), torch.arange(ROWS) % VOCABULARY
    ablated, baseline = logits.clone(), logits.clone()
    ablated[rows, target] += shift
    baseline[rows, target] += GOOD
    prediction = Prediction(ablated, target, baseline, (target + 1) % VOCABULARY)
    try:
        plugin(prediction)
    except HarnessError as error:
        judge_refusal(error)
        prediction = Prediction(ablated, baseline.clone(), baseline, baseline.roll(1, dims=1))
    return {"prediction": prediction}


def _judge_measure(plugin: Any, measure: Any) -> None:
    require(
        plugin.damage in (1, -1), f"its damage is {plugin.damage!r}: use the sign of a change for the worse, 1 or -1"
    )
    require(isinstance(measure, torch.Tensor), f"it returns {type(measure).__name__}, not a tensor")
    require(measure.shape == (ROWS,), f"shape {tuple(measure.shape)}, not one number per row")
    require(bool(torch.isfinite(measure).all()), "it contains NaN or infinity")


def declares_the_direction_of_damage(plugin: Any) -> None:
    """A model that was certain of the target, and is now certain of another token, is damaged by any metric."""
    good, bad = (plugin(**_prediction(plugin, shift)).float().mean().item() for shift in (GOOD, BAD))
    correct = plugin.damage * (bad - good) > 0
    require(correct, f"damage={plugin.damage:+d}, but a worse prediction changes it in the other direction")


def measures_each_row_independently(plugin: Any) -> None:
    """A row's value does not depend on other rows: conditions share a pass."""
    seen = _prediction(plugin)["prediction"]
    parts: list[Any] = [seen.logits, seen.target, seen.baseline, seen.counterfactual]
    rows = (Prediction(*(part[row : row + 1] for part in parts)) for row in range(ROWS))
    alone = torch.cat([plugin(row) for row in rows])
    require(torch.allclose(plugin(seen), alone, atol=1e-5), "a row's value depends on the other rows")


def gives_equal_values_on_the_baseline(plugin: Any) -> None:
    """A metric that compares with the baseline has one value for all rows without ablation."""
    seen = _prediction(plugin)["prediction"]
    if contents(_without(plugin, seen, "baseline")) == contents(plugin(seen)):
        return  # it does not use the baseline
    values = plugin(**_prediction(plugin, GOOD))
    require(
        torch.allclose(values, values[:1].expand(ROWS), atol=1e-5),
        "it compares with the baseline, and its values differ between rows without ablation (if this is intended, "
        "declare it in known_limits)",
    )


def ignores_or_refuses_missing_inputs(plugin: Any) -> None:
    """Without a baseline or counterfactuals it gives the same values, or an error message."""
    seen = _prediction(plugin)["prediction"]
    for missing in ("baseline", "counterfactual"):
        result = _without(plugin, seen, missing)
        if isinstance(result, HarnessError):
            judge_refusal(result)
        else:
            same = contents(result) == contents(plugin(seen))
            require(same, f"without `{missing}` it measures something else: raise a HarnessError with a fix")


def _without(plugin: Any, seen: Prediction, missing: str) -> Any:
    """The result for a prediction that lacks an input: values, or the error."""
    parts: dict[str, Any] = {"baseline": seen.baseline, "counterfactual": seen.counterfactual, missing: None}
    try:
        return plugin(Prediction(seen.logits, seen.target, **parts))
    except HarnessError as error:
        return error


def keeps_nan(plugin: Any) -> None:
    """A row of NaN has the value NaN: half precision may overflow."""
    seen = _prediction(plugin)["prediction"]
    logits = seen.logits.clone()
    logits[3] = math.nan
    values = plugin(dataclasses.replace(seen, logits=logits))
    require(bool(values[3].isnan()), f"a row of NaN has the value {values[3].item():g}, not NaN")


METRIC: tuple[Check, ...] = (
    *usual_checks(_prediction, _judge_measure),
    declares_the_direction_of_damage,
    measures_each_row_independently,
    gives_equal_values_on_the_baseline,
    ignores_or_refuses_missing_inputs,
    keeps_nan,
)
