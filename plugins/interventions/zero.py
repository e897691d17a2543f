"""Zero ablation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

from harness import hookimpl

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Zero:
    r"""An ablated head writes nothing: its slice of the output projection's input is zero.

    .. math:: o_h(t) \leftarrow 0

    at all positions ``t``, or with ``positions=query`` at the query only. Asks: what does the prediction lose without
    this head's output? Zero is off the distribution the later layers know, so some of the damage is surprise; mean,
    resample and patching ask a milder question.

    Input: output [rows, positions, heads, head_dim]. Output: zeros that broadcast to it.
    Source: closure paper, section 3.8 (its scripts zero the projection's input at all positions).
    """

    name: ClassVar[str] = "zero"
    positions: Literal["all", "query"] = field(default="all", metadata={"help": "where heads are ablated"})

    def __call__(self, output: torch.Tensor) -> torch.Tensor:
        return output.new_zeros(())


@hookimpl
def harness_interventions() -> list[type[Zero]]:
    return [Zero]
