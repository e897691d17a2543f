"""The inputs of an intervention (donors' outputs, means, noise), and how its result replaces the outputs of ablated
units."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from harness.data.batch import Batch, Reads
from harness.data.contracts import Intervention
from harness.data.first_order import FirstOrder
from harness.data.stages import call_with, inputs_of
from harness.engine.batching import at_query
from harness.engine.sites import Mixture
from harness.util.errors import HarnessError
from harness.util.seeds import seed_for

Place = TypeVar("Place", bound=Hashable)
Values = Mapping[Place, Tensor]
"""Values of units by their site, or by their layer."""


@dataclass(frozen=True)
class Replacement:
    """An intervention, with its inputs for the examples of one micro-batch.

    By site (or layer), where the intervention asks for it: ``donor`` and ``noise`` [examples, places, units, width],
    ``mean`` and ``std`` [1 or places, units, width], ``traffic`` [1, units, 1], ``constant`` [1, units, width].
    Outputs are those of the site. Where a model gates or normalises heads before the output projection, the replacement
    is gated or normalised in the same way.
    """

    intervention: Intervention
    donor: Values[Any] = field(default_factory=dict)
    mean: Values[Any] = field(default_factory=dict)
    std: Values[Any] = field(default_factory=dict)
    noise: Values[Any] = field(default_factory=dict)
    traffic: Values[Any] = field(default_factory=dict)
    constant: Values[Any] = field(default_factory=dict)

    def __call__(
        self,
        site: Hashable,
        output: Float[Tensor, "rows places units width"],
        ablated: Bool[Tensor, "rows units"],
        query: Int[Tensor, " rows"],
        query_only: bool = False,
        units: Int[Tensor, " units"] | None = None,
    ) -> Float[Tensor, "rows places units width"]:
        """The outputs, with those of ablated units replaced by the intervention's.

        ``query_only``: the outputs are given at the query position only. ``units``: which of the units that the inputs
        are for (None: all).
        """

        def chosen(values: Tensor) -> Tensor:
            return (values if units is None else values.index_select(-2, units.to(values.device))).to(output)

        available: dict[str, Any] = {"output": output}
        for name, by_example in (("donor", self.donor), ("noise", self.noise)):
            if site in by_example:
                values = chosen(by_example[site])
                values = at_query(values, query[: len(values)]) if query_only else values[:, : output.shape[1]]
                available[name] = values.repeat(len(output) // len(values), 1, 1, 1)
        for name, by_place in (("mean", self.mean), ("std", self.std)):
            if site in by_place:
                values = chosen(by_place[site])
                if query_only:
                    available[name] = values[query].unsqueeze(1) if self.intervention.per == "position" else values
                else:
                    available[name] = values[: output.shape[1]]
        for name, by_unit in (("traffic", self.traffic), ("constant", self.constant)):
            if site in by_unit:
                available[name] = chosen(by_unit[site])
        replaced = ablated[:, None, :, None]
        if not query_only and self.intervention.positions == "query":
            at_the_query = torch.arange(output.shape[1], device=output.device) == query[:, None]
            replaced = replaced & at_the_query[:, :, None, None]
        return torch.where(replaced, call_with(self.intervention, **available), output)


class Unchanged(Intervention):
    """Leaves the outputs of ablated units as they are."""

    name: ClassVar[str] = "unchanged"

    def __call__(self, output: Tensor) -> Tensor:
        return output


def remixed(
    replacement: Replacement,
    site: Mixture,
    inputs: Sequence[Tensor],
    output: Float[Tensor, "rows *places width"],
    units: Int[Tensor, " units"],
    ablated: Bool[Tensor, "rows units"],
) -> Float[Tensor, "rows *places width"]:
    """The output of a mixture with the weights that an intervention on weights gives. ``units``: those of the mask."""
    intervention, given = replacement.intervention, tuple(inputs)
    weights = site.weights(given)
    mask = torch.zeros(len(ablated), weights.shape[-1], dtype=torch.bool, device=ablated.device)
    mask[:, units] = ablated
    by_place = mask.reshape(len(mask), *[1] * (weights.ndim - 2), -1)
    available = {"weights": weights, "ablated": by_place}
    if "rerouted" in inputs_of(type(intervention)):
        available["rerouted"] = site.rerouted(given, by_place)
    if site.name in replacement.traffic:
        available["traffic"] = replacement.traffic[site.name][..., 0].to(weights)
    return site.mixed(given, output, call_with(intervention, **available))


ReplacementFor = Callable[[Int[np.ndarray, " chosen"]], Replacement]
"""The replacement for any examples of a batch."""


def first_order_damage(
    reader: FirstOrder,
    replacement: Replacement,
    site: Hashable,
    output: Float[Tensor, "rows places units width"],
    gradient: Float[Tensor, "rows places units width"],
    query: Int[Tensor, " rows"],
) -> Float[Tensor, "rows units 1"]:
    """The first-order damage by ablating each unit of a site (:class:`harness.data.first_order.FirstOrder`)."""
    everything = output.new_ones(len(output), output.shape[2], dtype=torch.bool)
    change = replacement(site, output, everything, query).float() - output.float()
    return reader.metric.damage * (change * gradient.float()).sum(dim=(1, 3))[:, :, None]


def donors_of(intervention: Intervention, batch: Batch, reads: Reads) -> Batch:
    """The examples whose outputs an intervention uses, one for each example of the batch.

    Errors: an intervention without ``donors(batch)``; another number of donors, or other query positions; examples that
    the subject cannot read.
    """
    name = f"intervention {intervention.name}"
    donors = intervention.donors(batch)
    if not np.array_equal(donors.query, batch.query):
        raise HarnessError(
            f"{name}: its {len(donors)} donors do not have the query positions of the {len(batch)} examples of "
            f"{batch.name}.",
            "donors(batch) has to return as many examples, in the same order, with the same queries.",
        )
    donors.check(reads)
    return donors


def averaged_over(intervention: Intervention, batch: Batch, reference: Batch | None, reads: Reads) -> Batch:
    """The examples that an intervention's means are taken over.

    Errors: means per position, where the tested examples are longer than these; examples that the subject cannot read.
    """
    over = reference if reference is not None and intervention.over == "reference" else batch
    if intervention.per == "position" and over.query.max() < batch.query.max():
        raise HarnessError(
            f"intervention {intervention.name}: the tested examples have {batch.query.max() + 1} positions, but means "
            f"are taken over examples that have only {over.query.max() + 1}.",
            "One mean for all positions: intervention.per=all; over the tested examples: intervention.over=batch",
        )
    over.check(reads)
    return over


@dataclass(frozen=True)
class Moments:
    """Mean and standard deviation of units' outputs by site [1 or places, units, width]; float64."""

    mean: Mapping[Any, Float[Tensor, "places _ _"]]
    std: Mapping[Any, Float[Tensor, "places _ _"]]


def moments(
    over: Batch,
    each_position: bool,
    parts: Iterable[Int[np.ndarray, " _"]],
    run: Callable[[Int[np.ndarray, " _"]], Mapping[Any, Tensor]],
    spread: bool,
) -> Moments:
    """Moments over positions up to each example's query; ``run`` returns the outputs of a part of the examples.

    With ``each_position``, one mean per position, over the examples that reach it; else one mean over all positions of
    all examples. ``spread``: compute standard deviations as well.
    """
    reached = np.arange(over.query.max() + 1) <= over.query[:, None]
    positions = reached.shape[1] if each_position else 1
    sums: dict[Any, Tensor] = {}
    exact: dict[Any, Tensor] = {}
    squares: dict[Any, Tensor] = {}

    def add(totals: dict[Any, Tensor], site: Any, values: Tensor) -> None:
        added = values.sum(dim=0)
        added = added if each_position else added.sum(dim=0, keepdim=True)
        total = totals.setdefault(site, torch.zeros(positions, *added.shape[1:], dtype=torch.float64))
        total[: len(added)] += added.cpu().double()  # not every device has float64

    for chosen in parts:
        for site, output in run(chosen).items():
            unseen = torch.from_numpy(~reached[chosen, : output.shape[1]]).to(output.device)
            seen = output.float().masked_fill(unseen[:, :, None, None], 0)
            add(sums, site, seen)
            if spread:  # in float64: the mean of the squares can be much larger than the variance
                add(exact, site, seen.cpu().double())
                add(squares, site, seen.cpu().double().square())
    counts = torch.from_numpy(reached.sum(axis=0) if each_position else reached.sum(keepdims=True)[0])[:, None, None]
    means = {site: total / counts for site, total in sums.items()}
    variances = {site: total / counts - (exact[site] / counts).square() for site, total in squares.items()}
    std = {site: variance.clamp(min=0).sqrt() for site, variance in variances.items()}
    return Moments(means, std)


def traffic(
    over: Batch,
    parts: Iterable[Int[np.ndarray, " _"]],
    run: Callable[[Int[np.ndarray, " _"]], Mapping[Any, Tensor]],
) -> Values[Any]:
    """By site, the share of positions up to each example's query at which a unit hands on anything but zero."""

    def used(examples: Int[np.ndarray, " _"]) -> Mapping[Any, Tensor]:
        return {site: (output != 0).any(-1, keepdim=True).float() for site, output in run(examples).items()}

    return moments(over, False, parts, used, False).mean


def noise_of(
    seed: int, units: Sequence[str], examples: Int[np.ndarray, " chosen"], places: int, width: int
) -> Float[Tensor, "chosen places units width"]:
    """Independent standard normal numbers. Each follows from the seed, the unit's label and the example's place."""
    drawn = np.empty((len(examples), places, len(units), width), dtype=np.float32)
    for column, unit in enumerate(units):
        key = seed_for(seed, f"noise of {unit}")
        for row, example in enumerate(examples.tolist()):
            rng = np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, example]))
            drawn[row, :, column] = rng.standard_normal((places, width), dtype=np.float32)
    return torch.from_numpy(drawn)
