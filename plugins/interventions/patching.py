"""Activation patching from a counterfactual run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

from harness import Batch, Intervention, hookimpl

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Patching(Intervention):
    r"""An ablated unit hands on its output in the run of the example's counterfactual, at the same position.

    .. math:: o_u^{(e)}(t) \leftarrow o_u^{(e')}(t)

    :math:`e'` is the counterfactual of ``e`` in the batch: of the same length and query position, with another answer.
    Each batch describes how it makes them. Question: does this unit carry the information that distinguishes the answer
    from the counterfactual's? Information that both runs share stays: a unit that the task needs, but that carries no
    information about the answer, does no damage. This direction breaks the baseline run (noising). Read it with
    ``logit_difference``.

    Input: donor [rows, places, units, width], the outputs in the run of the counterfactuals. Output: the same.

    Errors: a batch without counterfactuals.
    Source: Zhang & Nanda 2024 (best practices of activation patching): counterfactuals by symmetric token replacement.
    """

    name: ClassVar[str] = "patching"
    positions: Literal["all", "query"] = field(default="all", metadata={"help": "positions where units are ablated"})

    def donors(self, batch: Batch) -> Batch:
        """The counterfactuals."""
        return batch.counterfactual_batch

    def __call__(self, donor: torch.Tensor) -> torch.Tensor:
        return donor


@hookimpl
def harness_interventions() -> list[type[Patching]]:
    return [Patching]
