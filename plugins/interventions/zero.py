"""Zero ablation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from harness.hookspecs import hookimpl

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Zero:
    r"""An ablated head writes nothing: its slice of the output projection's input is zero at every position.

    .. math:: o_h(t) \leftarrow 0 \quad \text{for all positions } t

    Input: head outputs [rows, positions, heads, head_dim]. Output: zeros that broadcast to it.
    Zero is off the distribution the later layers know; mean and patching ablation ask a milder question.
    Source: closure paper, section 3.8 (its scripts zero the projection's input).
    """

    name: ClassVar[str] = "zero"

    def __call__(self, output: torch.Tensor) -> torch.Tensor:
        return output.new_zeros(())


@hookimpl
def harness_interventions() -> list[type[Zero]]:
    return [Zero]
