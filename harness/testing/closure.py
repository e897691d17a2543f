"""Checks of the stages that test groups: interventions, controls, metrics."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from inspect import signature
from typing import Any

import numpy as np
import torch
from jaxtyping import Int

from harness.data.batch import Batch
from harness.data.contracts import ControlSets, seeded
from harness.data.grouping import Labels
from harness.data.prediction import Prediction
from harness.data.profile import Profile
from harness.data.stages import inputs_of
from harness.testing import examples
from harness.testing.checks import Check, NotChecked, contents, require, require_sentence, usual_checks
from harness.testing.examples import UNITS
from harness.util.errors import HarnessError

# ----------------------------------------------------------------------------------------------------------------------
# Interventions
# ----------------------------------------------------------------------------------------------------------------------

OUTPUT = (3, 5, 4, 6)  # rows, places, units, width


def _replaced(plugin: Any, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    """The requested values: outputs of this run and of the donors' run, their moments, noise."""
    generator = torch.Generator().manual_seed(0)
    output, donor = (torch.randn(OUTPUT, generator=generator) for _ in range(2))
    over = 0 if plugin.per == "position" else (0, 1)
    mean, std = output.mean(dim=over, keepdim=True)[0], output.std(dim=over, keepdim=True)[0]
    noise = torch.randn(OUTPUT, generator=generator)
    available = {"output": output, "donor": donor, "mean": mean, "std": std, "noise": noise}
    return {name: available[name].to(dtype) for name in inputs_of(type(plugin))}


def _judge_replacement(_: Any, replacement: Any, dtype: torch.dtype = torch.float32) -> None:
    require(isinstance(replacement, torch.Tensor), f"it returns {type(replacement).__name__}, not a tensor")
    sizes = zip(reversed(replacement.shape), reversed(OUTPUT), strict=False)
    fits = replacement.ndim <= len(OUTPUT) and all(size in (1, full) for size, full in sizes)
    require(fits, f"shape {tuple(replacement.shape)} does not broadcast to the shape {OUTPUT} of the output")
    require(replacement.dtype == dtype, f"it turns {dtype} into {replacement.dtype}: keep the dtype of the input")
    require(bool(torch.isfinite(replacement).all()), "the replacement contains NaN or infinity")


def keeps_the_dtype(plugin: Any) -> None:
    """The replacement has the dtype of the input."""
    for dtype in (torch.bfloat16, torch.float16, torch.float64):
        _judge_replacement(plugin, plugin(**_replaced(plugin, dtype)), dtype)


def declares_where_units_are_ablated(plugin: Any) -> None:
    """At all positions, or at the query only."""
    positions = plugin.positions
    require(positions in ("all", "query"), f"its positions are {positions!r}, not 'all' or 'query'")


def replaces_each_position_independently(plugin: Any) -> None:
    """The replacement at a position depends on that position only."""
    whole = _replaced(plugin)
    replacement = plugin(**whole).expand(OUTPUT)
    for place in range(OUTPUT[1]):
        alone = {name: value[..., place, None, :, :] if value.shape[-3] > 1 else value for name, value in whole.items()}
        single = plugin(**alone).expand_as(replacement[:, :1])
        same = torch.allclose(single, replacement[:, place, None], atol=1e-6)
        require(same, "the replacement at a position depends on other positions")


def has_a_donor_for_every_example(plugin: Any) -> None:
    """As many donors as examples, with the same queries. A batch without counterfactuals may be refused."""
    if "donor" not in inputs_of(type(plugin)):
        return
    batch = examples.batch()
    before = contents(batch)
    donors = plugin.donors(batch)
    require(contents(batch) == before, "donors(batch) changed the batch: return another one")
    _judge_donors(batch, donors)
    require(
        donors.digest == plugin.donors(batch).digest, "two calls of donors(batch) differ: use rng_for(self.seed, ...)"
    )
    without_counterfactual = dataclasses.replace(batch, counterfactual=None)
    try:
        _judge_donors(without_counterfactual, plugin.donors(without_counterfactual))
    except HarnessError as error:
        _judge_refusal(error)


def _judge_donors(batch: Batch, donors: Any) -> None:
    require(isinstance(donors, Batch), f"donors(batch) returns {type(donors).__name__}, not Batch")
    require(len(donors) == len(batch), f"there are {len(batch)} examples but {len(donors)} donors")
    require(np.array_equal(donors.query, batch.query), "donors do not have the query positions of their examples")


def _judge_refusal(error: HarnessError) -> None:
    require_sentence(error)
    require(error.fix, f"its error {error.what!r} has no fix: use HarnessError(what, fix)")


INTERVENTION: tuple[Check, ...] = (
    *usual_checks(_replaced, _judge_replacement),
    keeps_the_dtype,
    declares_where_units_are_ablated,
    replaces_each_position_independently,
    has_a_donor_for_every_example,
)

# ----------------------------------------------------------------------------------------------------------------------
# Controls
# ----------------------------------------------------------------------------------------------------------------------

CANDIDATE = (1, 2, 9, 17)


def _matched_by(names: Iterable[str], order: Int[np.ndarray, " units"] | None = None) -> dict[str, Any]:
    """What units are matched by, with the units in another order if one is given."""
    place = np.arange(len(UNITS)) if order is None else order
    units = UNITS.reordered(place)
    classes = examples.labels().classes
    available = {
        "units": units,
        "labels": Labels(tuple(classes[i] for i in place), units),
        "strength": examples.strength()[place],
        "usage": examples.usage()[place],
    }
    return {name: available[name] for name in names}


def _partition(plugin: Any, order: Int[np.ndarray, " units"] | None = None) -> dict[str, Any]:
    return _matched_by(inputs_of(type(plugin)), order)


def _judge_profile(_: Any, profile: Any) -> None:
    require(isinstance(profile, Profile), f"it returns {type(profile).__name__}, not Profile")
    shape = np.shape(profile.cells)
    require(shape == (len(UNITS),), f"its cells have shape {shape}, not one per unit: every unit belongs to a cell")
    used = set(np.asarray(profile.cells).tolist())
    require(
        used == set(range(len(profile.names))),
        f"its units are in cells {sorted(used)}, its names are of {len(profile.names)}: use Profile.of(units, names)",
    )
    require(len(set(profile.names)) == len(profile.names), "two of its cells have the same name")


def does_not_depend_on_the_order_of_units(plugin: Any) -> None:
    """Permuted units have the same cells."""
    profile = plugin(**_partition(plugin))
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(UNITS))
        moved = plugin(**_partition(plugin, order))
        same = moved.names == profile.names and np.array_equal(moved.cells, profile.cells[order])
        require(same, "cells change when units are permuted: use Profile.of(units, names)")


# Groups of the former test, where a plugin draws its own.


def _drawn(plugin: Any, candidate: tuple[int, ...] = CANDIDATE, order: Int[np.ndarray, " units"] | None = None) -> Any:
    """The groups that the plugin draws; the candidate's positions are those in the usual order of units."""
    if plugin.disjoint is None:
        raise NotChecked("it has no `disjoint`: groups of its profile are drawn for test=disjoint")
    names = [name for name in signature(plugin.disjoint).parameters if name not in ("candidate", "n")]
    given = _matched_by(names, order)
    if order is not None:
        candidate = tuple(sorted(np.argsort(order)[list(candidate)].tolist()))
    return plugin.disjoint(candidate=candidate, n=plugin.n or 99, **given)


def _judge_disjoint(plugin: Any, drawn: Any, candidate: tuple[int, ...] = CANDIDATE) -> None:
    require(isinstance(drawn, ControlSets), f"disjoint(...) returns {type(drawn).__name__}, not ControlSets")
    most = plugin.n or 99
    require(len(drawn.groups) <= most, f"it draws {len(drawn.groups)} controls, more than n={most}")
    require(
        len({frozenset(group) for group in drawn.groups}) == len(drawn.groups),
        "a control is drawn twice: return distinct groups",
    )
    for group in drawn.groups:
        require(set(group) <= set(range(len(UNITS))), f"control {group} has members that are not positions of units")
        require(
            len(set(group)) == len(candidate),
            f"control {group} has {len(group)} units, the candidate has {len(candidate)}",
        )
        require(set(group).isdisjoint(candidate), f"control {group} shares a unit with the candidate")
    require(
        all(n > 0 for n in drawn.shortfall.values()),
        f"its shortfall {drawn.shortfall} has entries that are not positive: remove them",
    )


def draws_disjoint_groups(plugin: Any) -> None:
    """With test=disjoint: distinct groups of the candidate's size that share no unit with it, the same ones twice."""
    drawn = _drawn(plugin)
    _judge_disjoint(plugin, drawn)
    require(drawn.groups, "it draws no controls, although many are possible")
    require(_drawn(plugin) == drawn, "two calls of disjoint(...) differ: use rng_for(self.seed, ...)")


def draws_other_groups_with_another_seed(plugin: Any) -> None:
    """With test=disjoint, another seed gives other groups, if there is a seed."""
    if seeded(plugin):
        other = dataclasses.replace(plugin, seed=plugin.seed + 1)
        first, second = (_drawn(controls).groups for controls in (plugin, other))
        require(first != second, "another seed draws the same groups: use rng_for(self.seed, ...)")


def draws_the_same_groups_for_units_in_another_order(plugin: Any) -> None:
    """With test=disjoint, permuted units give the same groups."""
    straight = [sorted(UNITS.names(group)) for group in _drawn(plugin).groups]
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(UNITS))
        units = UNITS.reordered(order)
        require(
            [sorted(units.names(group)) for group in _drawn(plugin, order=order).groups] == straight,
            "controls change when units are permuted: draw from units in the order of `units.canonical`",
        )


def answers_if_few_other_units_are_left(plugin: Any) -> None:
    """With test=disjoint, candidates of whole layers, half the units, more than half: valid controls, or none."""
    for size in (6, 8, len(UNITS) // 2, len(UNITS) // 2 + 1, len(UNITS) - 1):
        candidate = tuple(range(size))
        drawn = _drawn(plugin, candidate)
        if drawn.groups:
            _judge_disjoint(plugin, drawn, candidate)


def draws_none_if_no_other_unit_is_left(plugin: Any) -> None:
    """With test=disjoint, a candidate of all units has no controls, which is not an error."""
    all_units = tuple(range(len(UNITS)))
    require(_drawn(plugin, all_units).groups == (), "it draws controls although no other unit is left")


CONTROLS: tuple[Check, ...] = (
    *usual_checks(_partition, _judge_profile),
    does_not_depend_on_the_order_of_units,
    draws_disjoint_groups,
    draws_other_groups_with_another_seed,
    draws_the_same_groups_for_units_in_another_order,
    answers_if_few_other_units_are_left,
    draws_none_if_no_other_unit_is_left,
)

# ----------------------------------------------------------------------------------------------------------------------
# Metrics
# ----------------------------------------------------------------------------------------------------------------------

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
        _judge_refusal(error)
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
            _judge_refusal(result)
        else:
            same = contents(result) == contents(plugin(seen))
            require(same, f"without `{missing}` it measures something else: raise a HarnessError with a fix")


def _without(plugin: Any, seen: Prediction, missing: str) -> Any:
    """The result for a prediction that lacks an input: values, or the error."""
    parts = {"baseline": seen.baseline, "counterfactual": seen.counterfactual, missing: None}
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
