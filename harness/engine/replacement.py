"""The inputs of an intervention (donors' outputs, means), and how its result replaces the outputs of ablated heads."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from harness.data.batch import Batch, Vocabulary
from harness.data.contracts import Intervention
from harness.data.stages import call_with
from harness.engine.batching import at_query
from harness.util.errors import HarnessError


@dataclass(frozen=True)
class Replacement:
    """An intervention, with its inputs for the examples of one micro-batch.

    By layer, where the intervention asks for it: ``donor`` [examples, positions, heads, head_dim], ``mean``
    [1 or positions, heads, head_dim]. Outputs are those of attention. Where a model gates or normalises them before
    the output projection, the replacement is gated or normalised in the same way.
    """

    intervention: Intervention
    donor: Mapping[int, Tensor] = field(default_factory=dict)
    mean: Mapping[int, Tensor] = field(default_factory=dict)

    def __call__(
        self,
        layer: int,
        output: Float[Tensor, "rows positions heads head_dim"],
        ablated: Bool[Tensor, "rows heads"],
        query: Int[Tensor, " rows"],
        query_only: bool = False,
    ) -> Float[Tensor, "rows positions heads head_dim"]:
        """The outputs, with those of ablated heads replaced by the intervention's.

        ``query_only``: the outputs are given at the query position only.
        """
        available: dict[str, Any] = {"output": output}
        if layer in self.donor:
            donor = self.donor[layer]
            if query_only:
                donor = at_query(donor, query[: len(donor)])
            available["donor"] = donor.repeat(len(output) // len(donor), 1, 1, 1)
        if layer in self.mean:
            mean = self.mean[layer].to(output)
            if query_only:
                available["mean"] = mean[query].unsqueeze(1) if self.intervention.per == "position" else mean
            else:
                available["mean"] = mean[: output.shape[1]]
        replaced = ablated[:, None, :, None]
        if not query_only and self.intervention.positions == "query":
            at_the_query = torch.arange(output.shape[1], device=output.device) == query[:, None]
            replaced = replaced & at_the_query[:, :, None, None]
        return torch.where(replaced, call_with(self.intervention, **available), output)


def donors_of(intervention: Intervention, batch: Batch, vocabulary: Vocabulary) -> Batch:
    """The examples whose outputs an intervention uses, one for each example of the batch.

    Errors: an intervention without ``donors(batch)``; another number of donors, or other query positions; tokens that
    the subject does not have.
    """
    name = f"intervention {intervention.name}"
    donors = intervention.donors(batch)
    if not np.array_equal(donors.query, batch.query):
        raise HarnessError(
            f"{name}: its {len(donors)} donors do not have the query positions of the {len(batch)} examples of "
            f"{batch.name}.",
            "donors(batch) has to return as many examples, in the same order, with the same queries.",
        )
    donors.check(vocabulary)
    return donors


def averaged_over(intervention: Intervention, batch: Batch, reference: Batch | None, vocabulary: Vocabulary) -> Batch:
    """The examples that an intervention's means are taken over.

    Errors: means per position, where the tested examples are longer than these; tokens that the subject does not have.
    """
    over = reference if reference is not None and intervention.over == "reference" else batch
    if intervention.per == "position" and over.query.max() < batch.query.max():
        raise HarnessError(
            f"intervention {intervention.name}: the tested examples have {batch.query.max() + 1} positions, but means "
            f"are taken over examples that have only {over.query.max() + 1}.",
            "One mean for all positions: intervention.per=all; over the tested examples: intervention.over=batch",
        )
    over.check(vocabulary)
    return over


def mean_outputs(
    over: Batch,
    each_position: bool,
    parts: Iterable[Int[np.ndarray, " chosen"]],
    run: Callable[[Batch], Mapping[int, Tensor]],
) -> dict[int, Float[Tensor, "positions heads head_dim"]]:
    """Means of head outputs by layer, over positions up to each example's query; ``run`` returns the outputs of a part.

    With ``each_position``, one mean per position, over the examples that reach it; else one mean over all positions of
    all examples.
    """
    reached = np.arange(over.query.max() + 1) <= over.query[:, None]
    sums: dict[int, Tensor] = {}
    for chosen in parts:
        for layer, output in run(over.take(chosen)).items():
            unseen = torch.from_numpy(~reached[chosen, : output.shape[1]]).to(output.device)
            added = output.float().masked_fill(unseen[:, :, None, None], 0).sum(dim=0)
            added = added if each_position else added.sum(dim=0, keepdim=True)
            positions = reached.shape[1] if each_position else 1
            total = sums.setdefault(layer, torch.zeros(positions, *added.shape[1:], dtype=torch.float64))
            total[: len(added)] += added.cpu().double()  # not every device has float64
    counts = torch.from_numpy(reached.sum(axis=0) if each_position else reached.sum(keepdims=True)[0])
    return {layer: total / counts[:, None, None] for layer, total in sums.items()}
