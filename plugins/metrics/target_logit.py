"""Logit of the target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from harness import Metric, hookimpl

if TYPE_CHECKING:
    import torch

    from harness import Prediction


@dataclass(frozen=True)
class TargetLogit(Metric):
    r"""The logit of the target token at the query; damage lowers it.

    .. math:: z_y

    Input: logits [rows, outputs]. Output: [rows], in logits (natural units).
    It also moves when all logits move, which changes no prediction. Therefore it is reported and does not decide,
    unless it is listed first, as in the paper.
    Source: closure paper, section 3.8.
    """

    name: ClassVar[str] = "target_logit"
    damage: ClassVar[Literal[1, -1]] = -1
    decides: ClassVar[bool] = False

    def __call__(self, prediction: Prediction) -> torch.Tensor:
        return prediction.logits.gather(1, prediction.target_class(self.name)[:, None])[:, 0]


@hookimpl
def harness_metrics() -> list[type[TargetLogit]]:
    return [TargetLogit]
