"""Log-odds of the target against all other tokens."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from harness import Metric, hookimpl

if TYPE_CHECKING:
    import torch

    from harness import Prediction


@dataclass(frozen=True)
class LogOdds(Metric):
    r"""How far the target's logit is above those of all other tokens together; damage lowers it.

    .. math:: z_y - \log\textstyle\sum_{v \ne y} e^{z_v} = \log\frac{p_y}{1 - p_y}

    A shift of all logits cancels. Unlike ``logit_difference``, it needs no counterfactual; unlike ``loss``, it does not
    saturate where the target is nearly certain. It is computed from the logits: :math:`1 - p_y` rounds to 0 in float32
    from a difference of 17 on.

    Input: logits [rows, outputs], target [rows]. Output: [rows], in logits (natural units); 0: as likely as not.
    Errors: targets that are vectors of outputs.
    Source: the logit function (Berkson 1944), of the target's probability.
    """

    name: ClassVar[str] = "log_odds"
    damage: ClassVar[Literal[1, -1]] = -1

    def __call__(self, prediction: Prediction) -> torch.Tensor:
        logits, target = prediction.logits, prediction.target_class(self.name)[:, None]
        others = logits.scatter(1, target, -math.inf).logsumexp(dim=1)
        return logits.gather(1, target)[:, 0] - others


@hookimpl
def harness_metrics() -> list[type[LogOdds]]:
    return [LogOdds]
