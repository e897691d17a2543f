"""Removing units of a mixture, with the weights of the others scaled up."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

from harness import Intervention, hookimpl

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Renormalise(Intervention):
    r"""An ablated unit of a mixture gets the weight 0, and the weights of the others are scaled up to the same sum.

    .. math:: w'_e = \frac{\sum_i w_i}{\sum_{i \notin S} w_i}\, w_e \quad (e \notin S), \qquad w'_e = 0 \quad (e \in S)

    S are the ablated units. With ``zero``, the mixture hands on less in total; here it does not. No unit that was not
    chosen is chosen now (``reroute`` does that). Where all chosen units are ablated, the mixture hands on nothing.

    Input: weights [rows, places, units], ablated [rows, 1, units]. Output: weights.
    Errors: a subject whose units are not parts of a mixture.
    Source: the choices of policy in expert-pruning studies: dropping an expert, and renormalising the top k.
    """

    name: ClassVar[str] = "renormalise"
    positions: Literal["all", "query"] = field(default="all", metadata={"help": "positions where units are ablated"})

    def __call__(self, weights: Tensor, ablated: Tensor) -> Tensor:
        left = weights.masked_fill(ablated, 0)
        total, remaining = weights.sum(-1, keepdim=True), left.sum(-1, keepdim=True)
        scaled = left * total / remaining
        return scaled.where((remaining != 0) & (ablated & (weights != 0)).any(-1, keepdim=True), left)


@hookimpl
def harness_interventions() -> list[type[Renormalise]]:
    return [Renormalise]
