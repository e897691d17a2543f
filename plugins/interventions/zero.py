"""Zero ablation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

from harness import Intervention, hookimpl

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Zero(Intervention):
    r"""An ablated unit hands on zeros.

    .. math:: o_u(t) \leftarrow 0

    at all positions ``t``, or with ``positions=query`` only at the query. For a head, this is its slice of the output
    projection's input. Question: what does the prediction lose without this unit's output? Zero is not a typical
    output. Part of the damage therefore comes from an input that later layers never receive otherwise. ``mean``,
    ``resample`` and ``patching`` avoid this.

    Input: output [rows, places, units, width]; vectors have one place. Output: zeros that broadcast to it.
    Source: closure paper, section 3.8 (its scripts zero the projection's input at all positions).
    """

    name: ClassVar[str] = "zero"
    positions: Literal["all", "query"] = field(default="all", metadata={"help": "positions where units are ablated"})

    def __call__(self, output: torch.Tensor) -> torch.Tensor:
        return output.new_zeros(())


@hookimpl
def harness_interventions() -> list[type[Zero]]:
    return [Zero]
