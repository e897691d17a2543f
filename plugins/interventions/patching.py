"""Activation patching from a counterfactual run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

from harness import Batch, hookimpl

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Patching:
    r"""An ablated head writes what it writes, at the same position, while the model reads the example's counterfactual.

    .. math:: o_h^{(e)}(t) \leftarrow o_h^{(e')}(t)

    The counterfactual :math:`e'` is the batch's counterfactual of ``e``: as long, asked at the same position, with another answer
    (each batch says how its counterfactuals are made). Asks: does this head carry what makes the answer this one and not the
    counterfactual's? What both runs share is kept, so a head that is needed for the task, but knows nothing of the answer, is no
    damage. This is the direction that breaks the baseline run (noising); read it with ``logit_difference``.

    Input: donor [rows, positions, heads, head_dim], outputs in the baseline run of the counterfactuals. Output: the same.

    Errors: a batch without counterfactuals.
    Source: Zhang & Nanda 2024 (best practices of activation patching): counterfactuals by symmetric token replacement.
    """

    name: ClassVar[str] = "patching"
    positions: Literal["all", "query"] = field(default="all", metadata={"help": "where heads are ablated"})

    def donors(self, batch: Batch) -> Batch:
        """The counterfactuals."""
        return batch.counterfactual_batch

    def __call__(self, donor: torch.Tensor) -> torch.Tensor:
        return donor


@hookimpl
def harness_interventions() -> list[type[Patching]]:
    return [Patching]
