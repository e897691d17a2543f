"""The mean over the tokens on which a unit is active."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

from harness import Intervention, hookimpl

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class RoutedMean(Intervention):
    r"""Where an ablated unit is active, it hands on its mean over the tokens on which it is active.

    .. math:: o_u(t) \leftarrow \frac{1}{|R_u|} \sum_{(e, s) \in R_u} o_u^{(e)}(s) \quad (o_u(t) \ne 0), \qquad
              R_u = \{(e, s) : o_u^{(e)}(s) \ne 0\}

    R are positions up to the query. For experts: tokens that are routed to the unit. ``mean`` averages over all tokens,
    most of which are not routed to it, and hands the result on at every token. Here routing stays: a token that is not
    routed to the unit is not changed. For neurons behind a ReLU: the tokens on which they are not zero. A unit that is
    active on no token of the examples averaged hands on zero.

    Input: output, mean [1, units, width], traffic [1, units, 1]. Output: as output.
    Errors: a subject that does not give traffic (attention heads of ``hf``, which are always active).
    Source: this project; mean ablation of Wang et al. 2023, given the routing.
    """

    name: ClassVar[str] = "routed_mean"
    over: Literal["batch", "reference"] = field(
        default="reference",
        metadata={"help": "average the tested examples (batch), or those proposed on (reference)"},
    )
    positions: Literal["all", "query"] = field(default="all", metadata={"help": "positions where units are ablated"})

    def __call__(self, output: Tensor, mean: Tensor, traffic: Tensor) -> Tensor:
        of_routed = (mean / traffic).where(traffic > 0, 0.0)
        return of_routed.where((output != 0).any(-1, keepdim=True), output)


@hookimpl
def harness_interventions() -> list[type[RoutedMean]]:
    return [RoutedMean]
