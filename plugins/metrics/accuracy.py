"""Top-1 accuracy."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from harness import Metric, hookimpl

if TYPE_CHECKING:
    import torch

    from harness import Prediction


@dataclass(frozen=True)
class Accuracy(Metric):
    r"""Whether the target is the most likely token; damage lowers it.

    .. math:: \mathbb 1[\arg\max_v z_v = y]

    Input: logits [rows, outputs]. Output: 0 or 1 per row [rows].
    ``worst`` is its floor: if no example is right without ablation, no damage can be seen.
    Source: closure paper, section 3.8.
    """

    name: ClassVar[str] = "accuracy"
    damage: ClassVar[Literal[1, -1]] = -1
    worst: ClassVar[float] = 0.0

    def __call__(self, prediction: Prediction) -> torch.Tensor:
        right = (prediction.logits.argmax(1) == prediction.target_class(self.name)).float()
        return right.masked_fill(
            prediction.logits.isnan().any(dim=1), math.nan
        )  # argmax treats NaN as the largest value


@hookimpl
def harness_metrics() -> list[type[Accuracy]]:
    return [Accuracy]
