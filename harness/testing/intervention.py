"""Checks of interventions: what an ablated unit hands on instead of its output."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch

from harness.data.batch import Batch
from harness.data.stages import inputs_of, mixes
from harness.testing import examples
from harness.testing.checks import Check, contents, judge_refusal, require, usual_checks
from harness.util.errors import HarnessError

OUTPUT = (3, 5, 4, 6)  # rows, places, units, width
WEIGHTS = OUTPUT[:3]


def _shape(plugin: Any) -> tuple[int, ...]:
    """What it replaces: outputs, or the weights of a mixture."""
    return WEIGHTS if mixes(plugin) else OUTPUT


def _replaced(plugin: Any, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    """The requested values: outputs of this run and of the donors' run, their moments, noise."""
    generator = torch.Generator().manual_seed(0)
    output, donor = (torch.randn(OUTPUT, generator=generator) for _ in range(2))
    over = 0 if plugin.per == "position" else (0, 1)
    mean, std = output.mean(dim=over, keepdim=True)[0], output.std(dim=over, keepdim=True)[0]
    noise = torch.randn(OUTPUT, generator=generator)
    weights, rerouted = (torch.rand(WEIGHTS, generator=generator) for _ in range(2))
    traffic = (1, WEIGHTS[2]) if mixes(plugin) else (1, OUTPUT[2], 1)
    available = {"output": output, "donor": donor, "mean": mean, "std": std, "noise": noise, "constant": mean,
                 "weights": weights, "rerouted": rerouted,
                 "traffic": torch.rand(traffic, generator=generator)}  # fmt: skip
    given = {name: available[name].to(dtype) for name in inputs_of(type(plugin)) if name in available}
    ablated = torch.arange(WEIGHTS[0] * WEIGHTS[2]).reshape(WEIGHTS[0], 1, WEIGHTS[2]) % 3 == 0
    return {**given, "ablated": ablated} if "ablated" in inputs_of(type(plugin)) else given


def _judge_replacement(plugin: Any, replacement: Any, dtype: torch.dtype = torch.float32) -> None:
    require(isinstance(replacement, torch.Tensor), f"it returns {type(replacement).__name__}, not a tensor")
    shape = _shape(plugin)
    sizes = zip(reversed(replacement.shape), reversed(shape), strict=False)
    fits = replacement.ndim <= len(shape) and all(size in (1, full) for size, full in sizes)
    replaced = "weights" if mixes(plugin) else "output"
    require(fits, f"shape {tuple(replacement.shape)} does not broadcast to the shape {shape} of the {replaced}")
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
    whole, shape = _replaced(plugin), _shape(plugin)
    replacement = plugin(**whole).expand(shape)
    places = 1 - len(shape)  # counted from the end: means have no rows
    for place in range(shape[1]):
        here = torch.tensor([place])
        alone = {
            name: value.index_select(places, here) if value.shape[places] > 1 else value
            for name, value in whole.items()
        }
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
        judge_refusal(error)


def _judge_donors(batch: Batch, donors: Any) -> None:
    require(isinstance(donors, Batch), f"donors(batch) returns {type(donors).__name__}, not Batch")
    require(len(donors) == len(batch), f"there are {len(batch)} examples but {len(donors)} donors")
    require(np.array_equal(donors.query, batch.query), "donors do not have the query positions of their examples")


INTERVENTION: tuple[Check, ...] = (
    *usual_checks(_replaced, _judge_replacement),
    keeps_the_dtype,
    declares_where_units_are_ablated,
    replaces_each_position_independently,
    has_a_donor_for_every_example,
)
