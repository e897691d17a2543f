"""Resampling ablation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

from harness import Batch, HarnessError, Intervention, hookimpl, rng_for

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Resample(Intervention):
    r"""An ablated unit hands on its output in the run of another example, at the same position.

    .. math:: o_u^{(e)}(t) \leftarrow o_u^{(\pi(e))}(t), \qquad \pi(e) \ne e

    Question: does the prediction depend on which example this unit has read? The replacement is a real output of the
    unit, so that later layers receive a typical input, unlike with zero or a mean. Information that all examples share
    stays.

    :math:`\pi` follows a random cycle through all examples (``seed``): each is the donor of one other example, and none
    of itself. Donors are text up to their own query, never padding. If a donor is shorter than the example, the text of
    the next donor on the cycle follows it (without the example itself), as documents follow each other in training. If
    all examples have one length, or are vectors, each gets the whole content of another.

    Input: donor [rows, places, units, width], the outputs in the run of the donors. Output: the same.

    Errors: a batch of one example.
    Source: Chan et al. 2022 (causal scrubbing), resampling ablation.
    """

    name: ClassVar[str] = "resample"
    seed: int = field(default=0, metadata={"help": "seed of the cycle of donors"})
    positions: Literal["all", "query"] = field(default="all", metadata={"help": "positions where units are ablated"})

    def donors(self, batch: Batch) -> Batch:
        """For each example the content of another one, with its own query position."""
        n = len(batch)
        if n == 1:
            raise HarnessError(
                f"intervention resample: batch {batch.name} has one example, and no other to take outputs from.",
                "Use more examples (batch.n=...), or intervention=zero.",
            )
        return batch.exchanged(rng_for(self.seed, "resample").permutation(n))

    def __call__(self, donor: torch.Tensor) -> torch.Tensor:
        return donor


@hookimpl
def harness_interventions() -> list[type[Resample]]:
    return [Resample]
