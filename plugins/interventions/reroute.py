"""Routing around units of a mixture."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

from harness import Intervention, hookimpl

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Reroute(Intervention):
    r"""The router of a mixture chooses as if the ablated units did not exist: their logits are minus infinity.

    .. math:: r_e \leftarrow -\infty \quad (e \in S)

    S are the ablated units, r the logits of the router. The router then normalises and chooses as it always does, so
    that the next best units take part, with the weights that it gives them. Question: does the model need these units,
    or does it have others for the same tokens?

    Input: rerouted, the weights of such a router [rows, places, units]. Output: weights.
    Errors: a subject whose units are not parts of a mixture; fewer units left than the router chooses.
    Source: this policy is called routing around; in a depth router it is masking and renormalising.
    """

    name: ClassVar[str] = "reroute"
    positions: Literal["all", "query"] = field(default="all", metadata={"help": "positions where units are ablated"})

    def __call__(self, rerouted: Tensor) -> Tensor:
        return rerouted


@hookimpl
def harness_interventions() -> list[type[Reroute]]:
    return [Reroute]
