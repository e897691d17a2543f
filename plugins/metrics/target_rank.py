"""Rank of the target among all tokens."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from harness import Metric, hookimpl

if TYPE_CHECKING:
    import torch

    from harness import Prediction


@dataclass(frozen=True)
class TargetRank(Metric):
    r"""How many tokens are more likely than the target; damage raises it.

    .. math:: \sum_{v \ne y} \mathbb 1[z_v > z_y] + \tfrac12\, \mathbb 1[z_v = z_y]

    A tie counts one half: a model with the same logit for every token has the target in the middle, not first. Ranks
    still change where accuracy is at its floor, but a few examples with a rank in the thousands dominate their mean.

    Input: logits [rows, outputs], target [rows]. Output: [rows], in 0 .. vocabulary - 1; 0: the most likely token.
    Source: the usual mean rank, counted from 0.
    """

    name: ClassVar[str] = "target_rank"
    damage: ClassVar[Literal[1, -1]] = 1

    def __call__(self, prediction: Prediction) -> torch.Tensor:
        logits = prediction.logits
        target = logits.gather(1, prediction.target_class(self.name)[:, None])
        above, ties = (logits > target).sum(dim=1), (logits == target).sum(dim=1) - 1
        return (above + ties / 2).masked_fill(logits.isnan().any(dim=1), math.nan)  # NaN compares as "not above"


@hookimpl
def harness_metrics() -> list[type[TargetRank]]:
    return [TargetRank]
