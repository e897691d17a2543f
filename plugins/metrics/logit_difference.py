"""Logit of the target over that of the counterfactual's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from harness import HarnessError, hookimpl

if TYPE_CHECKING:
    import torch

    from harness import Prediction


@dataclass(frozen=True)
class LogitDifference:
    r"""How far the target's logit lies above that of the counterfactual's target; damage lowers it.

    .. math:: z_y - z_{y'}, \qquad y' \text{: the target of the example's counterfactual}

    What pushes all tokens alike cancels: this reads what tells the two answers apart. It is 0, damaged or not, for an
    example whose counterfactual has the same answer.

    Input: logits [rows, vocabulary], target [rows], counterfactual [rows]. Output: [rows], in logits (natural units).
    Errors: a batch without counterfactuals.
    Source: Wang et al. 2023 (indirect object identification in GPT-2).
    """

    name: ClassVar[str] = "logit_difference"
    damage: ClassVar[Literal[1, -1]] = -1

    def __call__(self, prediction: Prediction) -> torch.Tensor:
        if prediction.counterfactual is None:
            raise HarnessError(
                "metric=logit_difference compares the target with that of a counterfactual, and the batch has none.",
                "Use a batch with counterfactuals (batch=synthetic_induction), or leave this metric out of metric=[...].",
            )
        own, other = (
            prediction.logits.gather(1, token[:, None])[:, 0]
            for token in (prediction.target, prediction.counterfactual)
        )
        return own - other


@hookimpl
def harness_metrics() -> list[type[LogitDifference]]:
    return [LogitDifference]
