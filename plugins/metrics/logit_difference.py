"""Logit difference between the right answer and the wrong one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from harness import Metric, hookimpl

if TYPE_CHECKING:
    import torch

    from harness import Prediction


@dataclass(frozen=True)
class LogitDifference(Metric):
    r"""How far the target's logit is above that of the counterfactual's target; damage lowers it.

    .. math:: z_y - z_{y'}, \qquad y' \text{: the target of the example's counterfactual}

    Where an example has a set of right answers R and a set of wrong ones W, it is the log-odds of R against W:

    .. math:: \log\textstyle\sum_{v \in R} e^{z_v} - \log\sum_{v \in W} e^{z_v} = \log\frac{p(R)}{p(W)}

    A shift of all logits cancels: the metric measures only what separates the two answers. If the counterfactual has
    the same target as the example, it is always 0.

    Input: logits [rows, outputs], target [rows], counterfactual [rows], or answers [rows, most]. Output: [rows], in
    logits (natural units).
    Errors: a batch without counterfactuals and without sets of answers; targets that are vectors of outputs.
    Source: Wang et al. 2023 (indirect object identification in GPT-2); sets: Mueller et al. 2025 (MIB).
    """

    name: ClassVar[str] = "logit_difference"
    damage: ClassVar[Literal[1, -1]] = -1

    def __call__(self, prediction: Prediction) -> torch.Tensor:
        right, wrong = prediction.right_and_wrong(self.name)
        return right - wrong


@hookimpl
def harness_metrics() -> list[type[LogitDifference]]:
    return [LogitDifference]
