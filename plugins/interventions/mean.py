"""Mean ablation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

from harness import Intervention, hookimpl

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Mean(Intervention):
    r"""An ablated unit hands on its mean output: its constant part stays, the variation between examples is removed.

    .. math:: o_u(t) \leftarrow \frac{1}{|P|} \sum_{(e, s) \in P} o_u^{(e)}(s)

    P: with ``per=all``, all positions up to the query of all examples, with equal weights; with ``per=position``,
    position ``t`` of the examples that have it. Vectors have one place, so that both are the mean over examples.
    Question: does the prediction depend on the variation of this unit's output? A unit with a constant output does no
    damage, although zero ablation of it can. The mean may be far from any real output.

    ``over=reference`` averages the examples proposed on, so that a tested example is not part of its own replacement
    (if there are no separate examples for proposing, the tested examples are averaged); ``over=batch`` averages the
    tested examples.

    Input: mean [1 or places, units, width], of baseline runs. Output: the same.

    Errors: with ``per=position``, tested examples longer than all examples averaged.
    Source: Wang et al. 2023 (indirect object identification in GPT-2 small), who replace outputs by the mean over a
    reference distribution.
    """

    name: ClassVar[str] = "mean"
    over: Literal["batch", "reference"] = field(
        default="reference",
        metadata={"help": "average the tested examples (batch), or those proposed on (reference)"},
    )
    per: Literal["all", "position"] = field(default="all", metadata={"help": "one mean, or one per position"})
    positions: Literal["all", "query"] = field(default="all", metadata={"help": "positions where units are ablated"})

    def __call__(self, mean: torch.Tensor) -> torch.Tensor:
        return mean


@hookimpl
def harness_interventions() -> list[type[Mean]]:
    return [Mean]
