"""Resampling ablation."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from harness import Batch, HarnessError, hookimpl, rng_for

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Resample:
    r"""An ablated head writes what it writes, at the same position, while the model reads another example.

    .. math:: o_h^{(e)}(t) \leftarrow o_h^{(\pi(e))}(t), \qquad \pi(e) \ne e

    Asks: does it matter to the prediction which example this head has seen? The output is one the head really gives, so
    later layers are not surprised as by zero or a mean; what all examples have in common is kept.

    :math:`\pi` follows a random ring through all examples (``seed``), so that each is donor once and none its own.
    Donors are text that a subject may see, up to their own query, never padding: where a donor is shorter than the
    example, the text of the next one on the ring follows (the example itself is left out), as documents follow one
    another in training. Where all are of one length, each gets the whole text of another.

    Input: donor [rows, positions, heads, head_dim], outputs in the baseline run of the donors. Output: the same.

    Errors: a batch of one example, which has no other.
    Source: Chan et al. 2022 (causal scrubbing), resampling ablation.
    """

    name: ClassVar[str] = "resample"
    seed: int = field(default=0, metadata={"help": "of the ring that donors are drawn from"})
    positions: Literal["all", "query"] = field(default="all", metadata={"help": "where heads are ablated"})

    def donors(self, batch: Batch) -> Batch:
        """For each example the tokens of others, as many as it has itself, asked at its own query."""
        n = len(batch)
        if n == 1:
            raise HarnessError(
                f"intervention resample: batch {batch.name} has one example, and no other to take outputs from.",
                "Ask for more examples (batch.n=...), or use intervention=zero.",
            )
        ring = rng_for(self.seed, "resample").permutation(n)
        tokens = np.zeros_like(batch.tokens)  # what comes after the query is never looked at
        for place, example in enumerate(ring):
            length, filled, step = batch.query[example] + 1, 0, 1
            while filled < length:
                donor = ring[(place + step) % n]
                if donor != example:
                    text = batch.tokens[donor, : min(batch.query[donor] + 1, length - filled)]
                    tokens[example, filled : filled + len(text)] = text
                    filled += len(text)
                step += 1
        return replace(batch, tokens=tokens, counterfactual=None)

    def __call__(self, donor: torch.Tensor) -> torch.Tensor:
        return donor


@hookimpl
def harness_interventions() -> list[type[Resample]]:
    return [Resample]
