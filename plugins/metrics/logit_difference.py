"""Logit difference between the target and the counterfactual's target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from harness import HarnessError, Metric, hookimpl

if TYPE_CHECKING:
    import torch

    from harness import Prediction


@dataclass(frozen=True)
class LogitDifference(Metric):
    r"""How far the target's logit is above that of the counterfactual's target; damage lowers it.

    .. math:: z_y - z_{y'}, \qquad y' \text{: the target of the example's counterfactual}

    A shift of all logits cancels: the metric measures only what separates the two answers. If the counterfactual has
    the same target as the example, it is always 0.

    Input: logits [rows, outputs], target [rows], counterfactual [rows]. Output: [rows], in logits (natural units).
    Errors: a batch without counterfactuals; targets that are vectors of outputs.
    Source: Wang et al. 2023 (indirect object identification in GPT-2).
    """

    name: ClassVar[str] = "logit_difference"
    damage: ClassVar[Literal[1, -1]] = -1

    def __call__(self, prediction: Prediction) -> torch.Tensor:
        if prediction.counterfactual is None:
            raise HarnessError(
                "metric=logit_difference: the batch has no counterfactuals, whose targets this metric needs.",
                "Use metric=[log_odds,accuracy], or a batch with counterfactuals (batch=random_repeat).",
            )
        classes = prediction.target_class(self.name), prediction.counterfactual  # the two have the same shape
        target, counterfactual = (prediction.logits.gather(1, output[:, None])[:, 0] for output in classes)
        return target - counterfactual


@hookimpl
def harness_metrics() -> list[type[LogitDifference]]:
    return [LogitDifference]
