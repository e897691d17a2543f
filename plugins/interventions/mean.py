"""Mean ablation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

from harness import Intervention, hookimpl

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Mean(Intervention):
    r"""An ablated head writes its mean output: what it always says stays, what it says of this example goes.

    .. math:: o_h(t) \leftarrow \frac{1}{|P|} \sum_{(e, s) \in P} o_h^{(e)}(s)

    P: with ``per=all``, all positions up to the query of all examples, each counting alike; with ``per=position``,
    position ``t`` of the examples that have it. Asks: what does the prediction lose with what varies in this head's
    output? A head that writes the same everywhere is not damage, where zero would make it some. The mean itself may
    lie where no real output does.

    ``over=reference`` takes means over the examples proposed on (over the tested ones, where nothing was proposed on
    others), so that nothing of a tested example is in its own replacement; ``batch`` over the tested ones.

    Input: mean [1 or positions, heads, head_dim], of baseline runs. Output: the same.

    Errors: with ``per=position``, tested examples longer than any that means are taken over.
    Source: Wang et al. 2023 (indirect object identification in GPT-2 small), whose knockouts write the mean over a
    reference distribution.
    """

    name: ClassVar[str] = "mean"
    over: Literal["batch", "reference"] = field(
        default="reference", metadata={"help": "examples averaged: the tested ones, or those proposed on"}
    )
    per: Literal["all", "position"] = field(default="all", metadata={"help": "one mean, or one at each position"})
    positions: Literal["all", "query"] = field(default="all", metadata={"help": "where heads are ablated"})

    def __call__(self, mean: torch.Tensor) -> torch.Tensor:
        return mean


@hookimpl
def harness_interventions() -> list[type[Mean]]:
    return [Mean]
