"""Swapping a unit of a mixture for another one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

from harness import HarnessError, Intervention, hookimpl

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Swap(Intervention):
    r"""An ablated unit of a mixture is replaced by another unit of its site, at the same weight.

    .. math:: w'_f = w_f + \sum_{e \in S,\ \pi(e) = f} w_e \quad (f \notin S), \qquad w'_e = 0 \quad (e \in S),
              \qquad \pi(e) = \operatorname*{arg\,min}_{f \notin S} |u_e - u_f|

    S are the ablated units, u their traffic: the share of tokens that are routed to each. :math:`\pi(e)` is the unit
    that is used about as often; of equal ones, the first. Unlike with ``zero``, the total weight stays; unlike with
    ``reroute``, the router does not choose the substitute. Question: does it matter that it is this unit?

    Input: weights [rows, places, units], ablated [rows, 1, units], traffic [1, units]. Output: weights.
    Errors: a subject whose units are not parts of a mixture; all units of a site ablated.
    Source: the policy "module swap" of expert-ablation studies; matched by usage here.
    """

    name: ClassVar[str] = "swap"
    over: Literal["batch", "reference"] = field(
        default="reference",
        metadata={"help": "traffic of the tested examples (batch), or of those proposed on (reference)"},
    )
    positions: Literal["all", "query"] = field(default="all", metadata={"help": "positions where units are ablated"})

    def __call__(self, weights: Tensor, ablated: Tensor, traffic: Tensor) -> Tensor:
        if ablated.all(-1).any():
            raise HarnessError(
                f"intervention swap: all {ablated.shape[-1]} units of a site are ablated, so none is left to take "
                "their place.",
                "Ablate fewer units of the site, or drop them: intervention=zero",
            )
        apart = (traffic.mT - traffic).abs()
        partner = apart.masked_fill(ablated.unsqueeze(-2), float("inf")).argmin(-1).expand(weights.shape)
        moved = weights.masked_fill(~ablated, 0)
        return weights.masked_fill(ablated, 0).scatter_add(-1, partner, moved)


@hookimpl
def harness_interventions() -> list[type[Swap]]:
    return [Swap]
