"""Activation patching from a counterfactual run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

from harness.batch import Batch
from harness.hookspecs import hookimpl

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Patching:
    r"""An ablated head writes what it writes, at the same position, while the model reads the example's twin.

    .. math:: o_h^{(e)}(t) \leftarrow o_h^{(e')}(t)

    The twin :math:`e'` is the batch's counterfactual of ``e``: as long, asked at the same position, with another answer
    (each batch says how its twins are made). Asks: does this head carry what makes the answer this one and not the
    twin's? What both runs share is kept, so a head that is needed for the task, but knows nothing of the answer, is no
    damage. This is the direction that breaks the clean run (noising); read it with ``logit_difference``.

    Input: donor [rows, positions, heads, head_dim], outputs in the untouched run of the twins. Output: the same.

    Errors: a batch without twins.
    Source: Zhang & Nanda 2024 (best practices of activation patching): twins by symmetric token replacement.
    """

    name: ClassVar[str] = "patching"
    positions: Literal["all", "query"] = field(default="all", metadata={"help": "where heads are ablated"})

    def donors(self, batch: Batch) -> Batch:
        """The twins."""
        return batch.counterfactual

    def __call__(self, donor: torch.Tensor) -> torch.Tensor:
        return donor


@hookimpl
def harness_interventions() -> list[type[Patching]]:
    return [Patching]
