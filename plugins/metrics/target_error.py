"""Squared error against the right outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from harness import HarnessError, Metric, hookimpl

if TYPE_CHECKING:
    import torch

    from harness import Prediction


@dataclass(frozen=True)
class TargetError(Metric):
    r"""Mean squared difference between the outputs and the right ones; damage raises it.

    .. math:: \frac1V \sum_v \bigl(z_v - y_v\bigr)^2

    For batches whose targets are all outputs, such as the inputs that an autoencoder has to reproduce. Where targets
    are classes, ``loss`` and ``accuracy`` measure the answer.

    Input: outputs and targets [rows, outputs]. Output: [rows], in squared units of the output.
    Errors: targets that are classes.
    Source: the usual mean squared error.
    """

    name: ClassVar[str] = "target_error"
    damage: ClassVar[Literal[1, -1]] = 1

    def __call__(self, prediction: Prediction) -> torch.Tensor:
        if prediction.target.ndim == 1:
            raise HarnessError(
                "metric=target_error needs all right outputs as the target of every example; these targets are "
                "classes.",
                "Choose a metric for them: metric=[log_odds,accuracy].",
            )
        return (prediction.logits - prediction.target).square().mean(dim=1)


@hookimpl
def harness_metrics() -> list[type[TargetError]]:
    return [TargetError]
