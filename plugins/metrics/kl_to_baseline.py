"""Divergence from the baseline model's prediction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from harness import HarnessError, Metric, hookimpl

if TYPE_CHECKING:
    import torch

    from harness import Prediction


@dataclass(frozen=True)
class KlToBaseline(Metric):
    r"""Kullback-Leibler divergence of the prediction from the baseline model's; damage raises it.

    .. math:: \sum_v p_v \log\frac{p_v}{q_v}, \qquad p = \text{softmax}(z^{\text{baseline}}),\ q = \text{softmax}(z)

    It does not use the target. Every change counts as damage, an improvement too, and any ablation raises it from 0.
    Therefore only the comparison with controls is informative.

    Input: logits and baseline logits [rows, vocabulary]. Output: [rows], in nats; 0 for the baseline model.
    Errors: a prediction without the baseline model's logits.
    Source: Conmy et al. 2023 (automated circuit discovery), where it selects the edges of a circuit.
    """

    name: ClassVar[str] = "kl_to_baseline"
    damage: ClassVar[Literal[1, -1]] = 1

    def __call__(self, prediction: Prediction) -> torch.Tensor:
        if prediction.baseline is None:
            raise HarnessError(
                "metric=kl_to_baseline: this subject does not provide the baseline model's logits.",
                "Remove this metric from metric=[...].",
            )
        baseline, ablated = (logits.log_softmax(dim=1) for logits in (prediction.baseline, prediction.logits))
        divergence = (baseline.exp() * (baseline - ablated)).sum(dim=1)
        return divergence.clamp(min=0)  # by rounding, it can be slightly negative


@hookimpl
def harness_metrics() -> list[type[KlToBaseline]]:
    return [KlToBaseline]
