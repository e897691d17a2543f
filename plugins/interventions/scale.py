"""Scaling of a unit's output."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

from harness import Intervention, hookimpl

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Scale(Intervention):
    r"""An ablated unit hands on its output times a factor.

    .. math:: o_u(t) \leftarrow k\, o_u(t)

    k is ``factor``: 0 is zero ablation, 1 the baseline, 2 doubles the output, -1 turns its sign. Question: how does the
    prediction change with the strength of this unit? Several factors give a dose-response curve. A small change stays
    near outputs that occur, and its damage is nearly linear in ``1 - factor`` (the slope is that of ``attribution``).

    Input: output [rows, places, units, width]. Output: of that shape.
    Source: Michel et al. 2019 (a factor on each head's output; the gradient by it is the head's importance).
    """

    name: ClassVar[str] = "scale"
    factor: float = field(default=0.5, metadata={"help": "factor on the unit's output: 0 is zero ablation"})
    positions: Literal["all", "query"] = field(default="all", metadata={"help": "positions where units are ablated"})

    def __call__(self, output: torch.Tensor) -> torch.Tensor:
        return self.factor * output


@hookimpl
def harness_interventions() -> list[type[Scale]]:
    return [Scale]
