"""Cross-entropy of the target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from harness import Metric, hookimpl

if TYPE_CHECKING:
    import torch

    from harness import Prediction


@dataclass(frozen=True)
class Loss(Metric):
    r"""Cross-entropy of the target at the query; damage raises it.

    .. math:: \log\textstyle\sum_v e^{z_v} - z_y

    Input: logits [rows, outputs]. Output: [rows], in nats.
    If the target is not the true continuation (``target=repeat``), the loss falls whenever the model becomes less
    confident in the true one. Therefore it is reported and does not decide, unless it is listed first.
    Source: closure paper, section 3.8.
    """

    name: ClassVar[str] = "loss"
    damage: ClassVar[Literal[1, -1]] = 1
    decides: ClassVar[bool] = False

    def __call__(self, prediction: Prediction) -> torch.Tensor:
        import torch

        return torch.nn.functional.cross_entropy(
            prediction.logits, prediction.target_class(self.name), reduction="none"
        )


@hookimpl
def harness_metrics() -> list[type[Loss]]:
    return [Loss]
