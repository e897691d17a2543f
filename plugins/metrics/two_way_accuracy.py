"""Accuracy between the right answer and the wrong one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from harness import Metric, hookimpl

if TYPE_CHECKING:
    import torch

    from harness import Prediction


@dataclass(frozen=True)
class TwoWayAccuracy(Metric):
    r"""Whether the right answer is more likely than the wrong one; damage lowers it. Chance is one half.

    .. math:: \mathbb 1[z_y > z_{y'}], \qquad y' \text{: the target of the example's counterfactual}

    Sets of answers are joined by log-sum-exp, as in ``logit_difference``, of which this is the sign. Unlike
    ``accuracy``, other continuations of the text do not count. Equal logits are not right.

    Input: logits [rows, outputs], target [rows], counterfactual [rows], or answers [rows, most]. Output: 0 or 1 per
    row [rows]. ``worst`` is its floor.
    Errors: a batch without counterfactuals and without sets of answers; targets that are vectors of outputs.
    Source: minimal pairs (Marvin & Linzen 2018); IOI (Wang et al. 2023), where it is called accuracy.
    """

    name: ClassVar[str] = "two_way_accuracy"
    damage: ClassVar[Literal[1, -1]] = -1
    worst: ClassVar[float] = 0.0

    def __call__(self, prediction: Prediction) -> torch.Tensor:
        right, wrong = prediction.right_and_wrong(self.name)
        unknown = prediction.logits.isnan().any(dim=1)
        return (right > wrong).float().masked_fill(unknown, float("nan"))


@hookimpl
def harness_metrics() -> list[type[TwoWayAccuracy]]:
    return [TwoWayAccuracy]
