"""Interventions with fitted constants: what is fitted, and the loss that it makes small."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, runtime_checkable

from harness.data.contracts import Intervention, Metric
from harness.data.stages import inputs_of
from harness.util.errors import HarnessError

if TYPE_CHECKING:
    from torch import Tensor  # loaded at first use: `harness list` must stay fast

    from harness.data.prediction import Prediction

CONSTANT = "constant"


@runtime_checkable
class Fitted(Intervention, Protocol):
    """An intervention that asks for ``constant``: it is fitted in so many ``steps``, the first at this ``rate``.

    With 0 steps constants are means.
    """

    steps: int = 0
    rate: float = 0.0


def fitted_by(intervention: Intervention) -> Fitted:
    """An intervention that asks for constants. Errors: nothing says how they are fitted."""
    if not isinstance(intervention, Fitted):
        raise HarnessError(
            f"intervention {intervention.name} asks for '{CONSTANT}' but does not say how it is fitted.",
            "Give it the fields steps (how many) and rate (of the first one).",
        )
    return intervention


def fits(intervention: Intervention) -> bool:
    """Whether an intervention has fitted constants."""
    return CONSTANT in inputs_of(type(intervention))


@dataclass(frozen=True)
class TargetLoss(Metric):
    """What constants are fitted by: cross-entropy of the target or, where targets are outputs, mean squared error."""

    name: ClassVar[str] = "target_loss"
    damage: ClassVar[Literal[1, -1]] = 1

    def __call__(self, prediction: Prediction) -> Tensor:
        from torch.nn.functional import cross_entropy

        if prediction.target.ndim > 1:
            return (prediction.logits - prediction.target).square().mean(dim=1)
        return cross_entropy(prediction.logits, prediction.target, reduction="none")
