"""Zero ablation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

from harness import Intervention, hookimpl

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Zero(Intervention):
    r"""An ablated head writes nothing: its slice of the output projection's input is zero.

    .. math:: o_h(t) \leftarrow 0

    at all positions ``t``, or with ``positions=query`` only at the query. Question: what does the prediction lose
    without this head's output? Zero is not a typical output. Part of the damage therefore comes from an input that
    later layers never receive otherwise. ``mean``, ``resample`` and ``patching`` avoid this.

    Input: output [rows, positions, heads, head_dim]. Output: zeros that broadcast to it.
    Source: closure paper, section 3.8 (its scripts zero the projection's input at all positions).
    """

    name: ClassVar[str] = "zero"
    positions: Literal["all", "query"] = field(default="all", metadata={"help": "positions where heads are ablated"})

    def __call__(self, output: torch.Tensor) -> torch.Tensor:
        return output.new_zeros(())


@hookimpl
def harness_interventions() -> list[type[Zero]]:
    return [Zero]
