"""What an intervention is shown of other examples, their outputs or their mean, and how its answer is put in place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from harness.data.batch import Batch, Vocabulary
from harness.data.stages import Intervention, call_with
from harness.engine.batching import at_query
from harness.util.errors import HarnessError


@dataclass(frozen=True)
class Replacement:
    """An intervention at work on the examples of one micro-batch.

    Per layer, where the intervention asks for it: ``donor`` [examples, positions, heads, head_dim], ``mean``
    [1 or positions, heads, head_dim]. Outputs are those of attention: where a model gates or normalises them on their
    way to the output projection, what is put in place is gated or normalised as the row's own would have been.
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
        alone: bool = False,
    ) -> Float[Tensor, "rows positions heads head_dim"]:
        """The outputs, with the intervention's in the place of those of ablated heads.

        ``alone``: the outputs are those at the query, and of no other position.
        """
        available: dict[str, Any] = {"output": output}
        if layer in self.donor:
            donor = self.donor[layer]
            if alone:
                donor = at_query(donor, query[: len(donor)])
            available["donor"] = donor.repeat(len(output) // len(donor), 1, 1, 1)
        if layer in self.mean:
            mean = self.mean[layer].to(output)
            if alone:
                available["mean"] = mean[query].unsqueeze(1) if self.intervention.per == "position" else mean
            else:
                available["mean"] = mean[: output.shape[1]]
        where = ablated[:, None, :, None]
        if not alone and self.intervention.positions == "query":
            here = torch.arange(output.shape[1], device=output.device) == query[:, None]
            where = where & here[:, :, None, None]
        return torch.where(where, call_with(self.intervention, **available), output)


def donors_of(intervention: Intervention, batch: Batch, vocabulary: Vocabulary) -> Batch:
    """The examples that an intervention takes outputs from, one for each example of the batch.

    Errors: an intervention without ``donors(batch)``; donors that are not as many, or asked elsewhere; tokens that the
    subject does not have.
    """
    name = f"intervention {intervention.name}"
    donors = intervention.donors(batch)
    if not np.array_equal(donors.query, batch.query):
        raise HarnessError(
            f"{name}: its {len(donors)} donors are not asked where the {len(batch)} examples of {batch.name} are.",
            "donors(batch) has to return as many examples, in the same order, with the same queries.",
        )
    donors.check(vocabulary)
    return donors


def averaged_over(intervention: Intervention, batch: Batch, reference: Batch | None, vocabulary: Vocabulary) -> Batch:
    """The examples that an intervention's means are taken over.

    Errors: means per position where the tested examples have positions that these do not reach; tokens that the subject
    does not have.
    """
    over = reference if reference is not None and intervention.over == "reference" else batch
    if intervention.per == "position" and over.query.max() < batch.query.max():
        raise HarnessError(
            f"intervention {intervention.name}: the tested examples have {batch.query.max() + 1} positions, those that "
            f"means are taken over only {over.query.max() + 1}.",
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
    """Means of head outputs by layer, over positions up to each example's query; ``run`` gives the outputs of a part.

    At each position over the examples that have it, or one mean in which every position of every example counts alike.
    """
    reached = np.arange(over.query.max() + 1) <= over.query[:, None]
    sums: dict[int, Tensor] = {}
    for chosen in parts:
        for layer, output in run(over.take(chosen)).items():
            unseen = torch.from_numpy(~reached[chosen, : output.shape[1]]).to(output.device)
            found = output.float().masked_fill(unseen[:, :, None, None], 0).sum(dim=0)
            found = found if each_position else found.sum(dim=0, keepdim=True)
            positions = reached.shape[1] if each_position else 1
            total = sums.setdefault(layer, torch.zeros(positions, *found.shape[1:], dtype=torch.float64))
            total[: len(found)] += found.cpu().double()  # not every device has float64
    counts = torch.from_numpy(reached.sum(axis=0) if each_position else reached.sum(keepdims=True)[0])
    return {layer: total / counts[:, None, None] for layer, total in sums.items()}
