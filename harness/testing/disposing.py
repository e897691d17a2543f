"""Contracts of what disposes: interventions, controls, metrics."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import torch

from harness.data.batch import Batch
from harness.data.grouping import Labels
from harness.data.prediction import Prediction
from harness.data.stages import ControlSets, inputs_of, seeded
from harness.data.units import UnitSpace
from harness.testing import examples
from harness.testing.examples import UNITS
from harness.testing.rules import Check, contents, require, usual_checks
from harness.util.errors import HarnessError

# ----------------------------------------------------------------------------------------------------------------------
# Interventions
# ----------------------------------------------------------------------------------------------------------------------

OUTPUT = (3, 5, 4, 6)  # rows, positions, heads, head_dim


def _replaced(plugin: Any, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    """What heads hand on, in this run and in the donors', and on average."""
    generator = torch.Generator().manual_seed(0)
    output, donor = (torch.randn(OUTPUT, generator=generator) for _ in range(2))
    over = 0 if plugin.per == "position" else (0, 1)
    available = {"output": output, "donor": donor, "mean": output.mean(dim=over, keepdim=True)[0]}
    return {name: available[name].to(dtype) for name in inputs_of(type(plugin))}


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
        _judge_replacement(plugin, plugin(**_replaced(plugin, dtype)), dtype)


def says_where_units_are_ablated(plugin: Any) -> None:
    """At all positions, or at the query only."""
    where = plugin.positions
    require(where in ("all", "query"), f"its positions are {where!r}, not 'all' or 'query'")


def replaces_each_position_by_itself(plugin: Any) -> None:
    """Where no other position matters it is shown the query's alone, and has to write the same there."""
    whole = _replaced(plugin)
    written = plugin(**whole).expand(OUTPUT)
    for place in range(OUTPUT[1]):
        alone = {name: given[..., place, None, :, :] if given.shape[-3] > 1 else given for name, given in whole.items()}
        same = torch.allclose(plugin(**alone).expand_as(written[:, :1]), written[:, place, None], atol=1e-6)
        require(same, "what it writes at a position depends on what is at the others")


def names_a_donor_for_every_example(plugin: Any) -> None:
    """As many donors as examples, asked at the same positions; or, for a batch without counterfactuals, a sentence."""
    if "donor" not in inputs_of(type(plugin)):
        return
    batch = examples.batch()
    before = contents(batch)
    found = plugin.donors(batch)
    require(contents(batch) == before, "donors(batch) changed the batch: make another")
    _judge_donors(batch, found)
    require(found.digest == plugin.donors(batch).digest, "two calls of donors(batch) differ: draw from `seed`")
    without_counterfactual = dataclasses.replace(batch, counterfactual=None)
    try:
        _judge_donors(without_counterfactual, plugin.donors(without_counterfactual))
    except HarnessError as error:
        _judge_refusal(error)


def _judge_donors(batch: Batch, found: Any) -> None:
    require(isinstance(found, Batch), f"donors(batch) is {type(found).__name__}, not Batch")
    require(len(found) == len(batch), f"{len(batch)} examples, and {len(found)} donors")
    require(np.array_equal(found.query, batch.query), "donors are not asked at the positions of their examples")


def _judge_refusal(error: HarnessError) -> None:
    require(error.what.endswith("."), f"its refusal is no sentence: {error.what}")
    require(error.fix, f"its refusal says no way out: {error.what}")


INTERVENTION: tuple[Check, ...] = (
    *usual_checks(_replaced, _judge_replacement),
    keeps_the_dtype,
    says_where_units_are_ablated,
    replaces_each_position_by_itself,
    names_a_donor_for_every_example,
)

# ----------------------------------------------------------------------------------------------------------------------
# Controls
# ----------------------------------------------------------------------------------------------------------------------

CANDIDATE = (1, 2, 9, 17)


def _candidate(plugin: Any, candidate: tuple[int, ...] = CANDIDATE) -> dict[str, Any]:
    available = {
        "candidate": candidate,
        "units": UNITS,
        "labels": examples.labels(),
        "strength": examples.strength(),
    }
    return {name: available[name] for name in inputs_of(type(plugin))}


def _judge_controls(plugin: Any, drawn: Any, candidate: tuple[int, ...] = CANDIDATE) -> None:
    require(isinstance(drawn, ControlSets), f"it returns {type(drawn).__name__}, not ControlSets")
    require(drawn.groups, "it draws no control, though there is room for many")
    wanted = len(drawn.groups) if plugin.n is None else plugin.n
    require(len(drawn.groups) <= wanted, f"{len(drawn.groups)} controls, {wanted} were asked for")
    require(len({frozenset(group) for group in drawn.groups}) == len(drawn.groups), "a control is drawn twice")
    for group in drawn.groups:
        require(set(group) <= set(range(len(UNITS))), f"control {group} has members that are no units")
        require(len(set(group)) == len(candidate), f"control {group} has not the candidate's {len(candidate)} units")
        require(set(group).isdisjoint(candidate), f"control {group} shares a unit with the candidate")
    require(all(n > 0 for n in drawn.shortfall.values()), f"its shortfall names what is not short: {drawn.shortfall}")


def draws_others_with_another_seed(plugin: Any) -> None:
    """The seed decides, where there is one."""
    if seeded(plugin):
        other = dataclasses.replace(plugin, seed=plugin.seed + 1)
        first, second = (controls(**_candidate(controls)).groups for controls in (plugin, other))
        require(first != second, "the seed changes nothing")


def draws_the_same_with_units_in_any_order(plugin: Any) -> None:
    """Units in other places give the same groups of the same units."""
    labels, strength = examples.labels(), examples.strength()
    straight = [sorted(UNITS.names(group)) for group in plugin(**_candidate(plugin)).groups]
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(UNITS))
        units = UnitSpace(tuple(UNITS.units[i] for i in order))
        available = {
            "candidate": units.find(UNITS.names(CANDIDATE)),
            "units": units,
            "labels": Labels(tuple(labels.classes[i] for i in order), units),
            "strength": strength[order],
        }
        drawn = plugin(**{name: available[name] for name in inputs_of(type(plugin))})
        require(
            [sorted(units.names(group)) for group in drawn.groups] == straight,
            "controls change when units change places: draw from units in the order of `units.canonical`",
        )


def answers_where_little_is_left(plugin: Any) -> None:
    """Whole layers, half the model, more than half: controls that keep the rules, or none."""
    for size in (6, 8, len(UNITS) // 2, len(UNITS) // 2 + 1, len(UNITS) - 1):
        candidate = tuple(range(size))
        drawn = plugin(**_candidate(plugin, candidate))
        if drawn.groups:
            _judge_controls(plugin, drawn, candidate)


def draws_none_where_nothing_is_left(plugin: Any) -> None:
    """A candidate of all units has no control: an answer, not an error."""
    everything = tuple(range(len(UNITS)))
    require(plugin(**_candidate(plugin, everything)).groups == (), "it draws controls where no unit is left")


CONTROLS: tuple[Check, ...] = (
    *usual_checks(_candidate, _judge_controls),
    draws_others_with_another_seed,
    draws_the_same_with_units_in_any_order,
    answers_where_little_is_left,
    draws_none_where_nothing_is_left,
)

# ----------------------------------------------------------------------------------------------------------------------
# Metrics
# ----------------------------------------------------------------------------------------------------------------------

ROWS, VOCABULARY = 8, 11
GOOD, BAD = 20.0, -20.0


def _prediction(_: Any, push: float = 0.0) -> dict[str, Prediction]:
    """Random logits, the target's moved by ``push``; the baseline model is sure of the target."""
    logits = torch.randn((ROWS, VOCABULARY), generator=torch.Generator().manual_seed(0))
    rows, target = torch.arange(ROWS), torch.arange(ROWS) % VOCABULARY
    now, baseline = logits.clone(), logits.clone()
    now[rows, target] += push
    baseline[rows, target] += GOOD
    return {"prediction": Prediction(now, target, baseline, (target + 1) % VOCABULARY)}


def _judge_measure(plugin: Any, measure: Any) -> None:
    require(plugin.damage in (1, -1), f"its damage is {plugin.damage!r}: the sign of a change for the worse, 1 or -1")
    require(isinstance(measure, torch.Tensor), f"it returns {type(measure).__name__}, not a tensor")
    require(measure.shape == (ROWS,), f"shape {tuple(measure.shape)}, not one number per row")
    require(bool(torch.isfinite(measure).all()), "it is NaN or infinite")


def says_which_way_damage_points(plugin: Any) -> None:
    """A model that was sure of the target, and now is sure that it is not: that is damage, whatever the metric."""
    good, bad = (plugin(**_prediction(plugin, push)).float().mean().item() for push in (GOOD, BAD))
    right = plugin.damage * (bad - good) > 0
    require(right, f"damage={plugin.damage:+d}, but a worse prediction moves it the other way")


def measures_each_row_by_itself(plugin: Any) -> None:
    """Conditions share a pass: no row may know of the others."""
    seen = _prediction(plugin)["prediction"]
    parts = [getattr(seen, field.name) for field in dataclasses.fields(seen)]
    alone = torch.cat([plugin(Prediction(*(part[row : row + 1] for part in parts))) for row in range(ROWS)])
    require(torch.allclose(plugin(seen), alone, atol=1e-5), "a row's value depends on the other rows")


def finds_untouched_rows_alike(plugin: Any) -> None:
    """What is measured against the baseline model is no different from row to row where nothing was touched."""
    seen = _prediction(plugin)["prediction"]
    if contents(_without(plugin, seen, "baseline")) == contents(plugin(seen)):
        return  # it does not look at the baseline model
    baseline = plugin(**_prediction(plugin, GOOD))
    alike = torch.allclose(baseline, baseline[:1].expand(ROWS), atol=1e-5)
    require(
        alike,
        "it compares with the baseline model, and finds rows different where nothing was touched (if that is meant, "
        "say so in known_limits)",
    )


def answers_as_well_or_refuses_without_a_twin(plugin: Any) -> None:
    """Not every batch has counterfactuals, not every subject a baseline run to show: the same numbers then, or a sentence."""
    seen = _prediction(plugin)["prediction"]
    for missing in ("baseline", "counterfactual"):
        found = _without(plugin, seen, missing)
        if isinstance(found, HarnessError):
            _judge_refusal(found)
        else:
            same = contents(found) == contents(plugin(seen))
            require(same, f"without `{missing}` it measures something else: refuse, with the way out")


def _without(plugin: Any, seen: Prediction, missing: str) -> Any:
    """What it makes of a prediction that lacks a part: numbers, or the refusal."""
    parts = {"baseline": seen.baseline, "counterfactual": seen.counterfactual, missing: None}
    try:
        return plugin(Prediction(seen.logits, seen.target, **parts))
    except HarnessError as error:
        return error


def does_not_hide_nan(plugin: Any) -> None:
    """Half precision overflows: a row of NaN has no value, least of all one that looks like any other."""
    seen = _prediction(plugin)["prediction"]
    logits = seen.logits.clone()
    logits[3] = math.nan
    found = plugin(dataclasses.replace(seen, logits=logits))
    require(bool(found[3].isnan()), f"of a row of NaN it makes {found[3].item():g}")


METRIC: tuple[Check, ...] = (
    *usual_checks(_prediction, _judge_measure),
    says_which_way_damage_points,
    measures_each_row_by_itself,
    finds_untouched_rows_alike,
    answers_as_well_or_refuses_without_a_twin,
    does_not_hide_nan,
)
