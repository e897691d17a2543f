"""Cross-entropy of the target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from harness import hookimpl

if TYPE_CHECKING:
    import torch

    from harness import Prediction


@dataclass(frozen=True)
class Loss:
    r"""Cross-entropy of the target at the query; damage raises it.

    .. math:: \log\textstyle\sum_v e^{z_v} - z_y

    Input: logits [rows, vocabulary]. Output: [rows], in nats.
    On targets that are not the true continuation (``target=repeat``) any loss of confidence in the true one lowers it:
    a verdict never rests on loss alone.
    Source: closure paper, section 3.8.
    """

    name: ClassVar[str] = "loss"
    damage: ClassVar[Literal[1, -1]] = 1

    def __call__(self, prediction: Prediction) -> torch.Tensor:
        import torch

        return torch.nn.functional.cross_entropy(prediction.logits, prediction.target, reduction="none")


@hookimpl
def harness_metrics() -> list[type[Loss]]:
    return [Loss]
