"""Squared error against the baseline model's outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from harness import HarnessError, Metric, hookimpl

if TYPE_CHECKING:
    import torch

    from harness import Prediction


@dataclass(frozen=True)
class SquaredError(Metric):
    r"""Mean squared difference between the outputs and the baseline model's; damage raises it.

    .. math:: \frac1V \sum_v \bigl(z_v - z_v^{\text{baseline}}\bigr)^2

    For toy models whose outputs are the answer. In a language model a shift of all logits changes it and changes no
    prediction. Every change counts as damage, as for ``kl_to_baseline``.

    Input: logits and baseline logits [rows, vocabulary]. Output: [rows], in squared units of the output; 0 for the
    baseline model.
    Errors: a prediction without the baseline model's logits.
    Source: the usual mean squared error.
    """

    name: ClassVar[str] = "squared_error"
    damage: ClassVar[Literal[1, -1]] = 1

    def __call__(self, prediction: Prediction) -> torch.Tensor:
        if prediction.baseline is None:
            raise HarnessError(
                "metric=squared_error: this subject does not provide the baseline model's outputs.",
                "Remove this metric from metric=[...].",
            )
        return (prediction.logits - prediction.baseline).square().mean(dim=1)


@hookimpl
def harness_metrics() -> list[type[SquaredError]]:
    return [SquaredError]
