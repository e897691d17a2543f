"""Clamping of a unit's output: steering."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

from harness import HarnessError, Intervention, hookimpl

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Clamp(Intervention):
    r"""An ablated unit hands on its output, clamped between two bounds; equal bounds set it (steering).

    .. math:: o_u(t) \leftarrow \min(\max(o_u(t),\ \text{low}),\ \text{high})

    Every number that the unit hands on is clamped. ``low=10 high=10`` sets the activation to 10 in every example, which
    steers the model towards what the unit stands for. ``low=null high=0`` removes positive activation, ``low=0
    high=null`` keeps only that. The default bounds are both 0, which is zero ablation. Question: what does the
    prediction do if this unit is held at a value, or kept within a range? Choose values that the unit takes: beyond
    them, later layers receive what they never saw. Bounds are most useful for units of width 1 (neurons, latents).

    Input: output [rows, places, units, width]. Output: of that shape.

    Errors: no bound; a lower bound above the upper one.
    Source: Templeton et al. 2024 (features of a sparse autoencoder clamped to multiples of their maximum).
    """

    name: ClassVar[str] = "clamp"
    low: float | None = field(default=0.0, metadata={"help": "smallest output; null: no bound"})
    high: float | None = field(default=0.0, metadata={"help": "largest output; null: no bound. Equal bounds set it"})
    positions: Literal["all", "query"] = field(default="all", metadata={"help": "positions where units are ablated"})

    def __post_init__(self) -> None:
        if self.low is None and self.high is None:
            raise HarnessError(
                "intervention clamp: intervention.low and intervention.high are both null, so nothing is clamped.",
                "Give one of them, or both.",
            )
        if self.low is not None and self.high is not None and self.low > self.high:
            raise HarnessError(
                f"intervention clamp: intervention.low={self.low} is above intervention.high={self.high}.",
                "Give both bounds, the lower one first. To set one value: "
                f"intervention.low={self.low} intervention.high={self.low}",
            )

    def __call__(self, output: torch.Tensor) -> torch.Tensor:
        return output.clamp(self.low, self.high)


@hookimpl
def harness_interventions() -> list[type[Clamp]]:
    return [Clamp]
