"""Divergence from the baseline model's prediction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from harness import HarnessError, hookimpl

if TYPE_CHECKING:
    import torch

    from harness import Prediction


@dataclass(frozen=True)
class KlToBaseline:
    r"""Kullback-Leibler divergence of the prediction from the baseline model's; damage raises it.

    .. math:: \sum_v p_v \log\frac{p_v}{q_v}, \qquad p = \text{softmax}(z^{\text{baseline}}),\ q = \text{softmax}(z)

    Every change counts as damage, one for the better as well, and it asks about no target: whatever is ablated moves it
    up from 0. Only the comparison with controls tells anything.

    Input: logits and baseline logits [rows, vocabulary]. Output: [rows], in nats; 0 for the baseline model.
    Errors: a prediction without the baseline model's logits.
    Source: Conmy et al. 2023 (automated circuit discovery), where circuits are found by it.
    """

    name: ClassVar[str] = "kl_to_baseline"
    damage: ClassVar[Literal[1, -1]] = 1

    def __call__(self, prediction: Prediction) -> torch.Tensor:
        if prediction.baseline is None:
            raise HarnessError(
                "metric=kl_to_baseline needs the baseline model's logits, and this subject does not hand them on.",
                "Leave this metric out of metric=[...].",
            )
        baseline, now = (logits.log_softmax(dim=1) for logits in (prediction.baseline, prediction.logits))
        return (
            (baseline.exp() * (baseline - now)).sum(dim=1).clamp(min=0)
        )  # rounding may fall below 0, a divergence may not


@hookimpl
def harness_metrics() -> list[type[KlToBaseline]]:
    return [KlToBaseline]
