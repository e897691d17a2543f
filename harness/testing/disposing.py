"""Contracts of what disposes: interventions, controls, metrics."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from harness.engine.prediction import Prediction
from harness.stages import ControlSets, asked
from harness.testing.examples import UNITS
from harness.testing.rules import Check, require, usual_checks

# ----------------------------------------------------------------------------------------------------------------------
# Interventions
# ----------------------------------------------------------------------------------------------------------------------

OUTPUT = (3, 5, 4, 6)  # rows, positions, heads, head_dim


def _output(_: Any) -> dict[str, torch.Tensor]:
    return {"output": torch.randn(OUTPUT, generator=torch.Generator().manual_seed(0))}


def _judge_replacement(_: Any, replacement: Any, dtype: torch.dtype = torch.float32) -> None:
    require(isinstance(replacement, torch.Tensor), f"it returns {type(replacement).__name__}, not a tensor")
    sizes = zip(reversed(replacement.shape), reversed(OUTPUT), strict=False)
    fits = replacement.ndim <= len(OUTPUT) and all(size in (1, of) for size, of in sizes)
    require(fits, f"shape {tuple(replacement.shape)} does not broadcast to the output's {OUTPUT}")
    require(replacement.dtype == dtype, f"it turns {dtype} into {replacement.dtype}")
    require(bool(torch.isfinite(replacement).all()), "it writes NaN or infinity")


def keeps_the_dtype(plugin: Any) -> None:
    """Half precision goes in, half precision comes out."""
    for dtype in (torch.bfloat16, torch.float16, torch.float64):
        _judge_replacement(plugin, plugin(_output(plugin)["output"].to(dtype)), dtype)


INTERVENTION: tuple[Check, ...] = (*usual_checks(_output, _judge_replacement), keeps_the_dtype)

# ----------------------------------------------------------------------------------------------------------------------
# Controls
# ----------------------------------------------------------------------------------------------------------------------

CANDIDATE = (1, 2, 9, 17)


def _candidate(plugin: Any, candidate: tuple[int, ...] = CANDIDATE) -> dict[str, Any]:
    available = {"candidate": candidate, "units": UNITS}
    return {name: available[name] for name in asked(type(plugin))}


def _judge_controls(plugin: Any, drawn: Any) -> None:
    require(isinstance(drawn, ControlSets), f"it returns {type(drawn).__name__}, not ControlSets")
    require(drawn.groups, "it draws no control, though there is room for many")
    wanted = getattr(plugin, "n", len(drawn.groups))
    require(len(drawn.groups) <= wanted, f"{len(drawn.groups)} controls, {wanted} were asked for")
    require(len({frozenset(group) for group in drawn.groups}) == len(drawn.groups), "a control is drawn twice")
    for group in drawn.groups:
        require(set(group) <= set(range(len(UNITS))), f"control {group} has members that are no units")
        require(len(set(group)) == len(CANDIDATE), f"control {group} has not the candidate's {len(CANDIDATE)} units")
        require(set(group).isdisjoint(CANDIDATE), f"control {group} shares a unit with the candidate")


def draws_others_with_another_seed(plugin: Any) -> None:
    """The seed decides, where there is one."""
    if hasattr(plugin, "seed"):
        other = dataclasses.replace(plugin, seed=plugin.seed + 1)
        first, second = (controls(**_candidate(controls)).groups for controls in (plugin, other))
        require(first != second, "the seed changes nothing")


def draws_none_where_nothing_is_left(plugin: Any) -> None:
    """A candidate of all units has no control: an answer, not an error."""
    everything = tuple(range(len(UNITS)))
    require(plugin(**_candidate(plugin, everything)).groups == (), "it draws controls where no unit is left")


CONTROLS: tuple[Check, ...] = (
    *usual_checks(_candidate, _judge_controls),
    draws_others_with_another_seed,
    draws_none_where_nothing_is_left,
)

# ----------------------------------------------------------------------------------------------------------------------
# Metrics
# ----------------------------------------------------------------------------------------------------------------------

ROWS, VOCABULARY = 8, 11


def _prediction(_: Any, push: float = 0.0) -> dict[str, Prediction]:
    """Random logits, the target's moved by ``push``."""
    logits = torch.randn((ROWS, VOCABULARY), generator=torch.Generator().manual_seed(0))
    target = torch.arange(ROWS) % VOCABULARY
    logits[torch.arange(ROWS), target] += push
    return {"prediction": Prediction(logits, target)}


def _judge_measure(plugin: Any, measure: Any) -> None:
    require(plugin.damage in (1, -1), f"its damage is {plugin.damage!r}: the sign of a change for the worse, 1 or -1")
    require(isinstance(measure, torch.Tensor), f"it returns {type(measure).__name__}, not a tensor")
    require(measure.shape == (ROWS,), f"shape {tuple(measure.shape)}, not one number per row")
    require(bool(torch.isfinite(measure).all()), "it is NaN or infinite")


def says_which_way_damage_points(plugin: Any) -> None:
    """Pushing the target's logit far down is damage, whatever the metric."""
    good, bad = (plugin(**_prediction(plugin, push)).mean().item() for push in (20.0, -20.0))
    right = plugin.damage * (bad - good) > 0
    require(right, f"damage={plugin.damage:+d}, but a worse prediction moves it the other way")


def measures_each_row_by_itself(plugin: Any) -> None:
    """Conditions share a pass: no row may know of the others."""
    seen = _prediction(plugin)["prediction"]
    together = plugin(seen)
    alone = torch.cat([plugin(Prediction(seen.logits[i : i + 1], seen.target[i : i + 1])) for i in range(ROWS)])
    require(torch.allclose(together, alone, atol=1e-5), "a row's value depends on the other rows")


METRIC: tuple[Check, ...] = (
    *usual_checks(_prediction, _judge_measure),
    says_which_way_damage_points,
    measures_each_row_by_itself,
)
