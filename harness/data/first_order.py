"""First-order damage: the metric and the intervention whose effect a reader of gradients is given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from jaxtyping import Float

from harness.data.contracts import Intervention, Metric
from harness.data.recording import Reader, Rows, Source
from harness.util.digest import digest
from harness.util.errors import HarnessError
from harness.util.fingerprint import identity

if TYPE_CHECKING:
    from torch import Tensor  # loaded at first use: `harness list` must stay fast

    from harness.data.prediction import Prediction


@dataclass(frozen=True)
class _Zeroed(Intervention):
    name: ClassVar[str] = "zero"

    def __call__(self, output: Tensor) -> Tensor:
        return output.new_zeros(output.shape)


@dataclass(frozen=True)
class _TargetOutput(Metric):
    name: ClassVar[str] = "target_logit"
    damage: ClassVar[Literal[1, -1]] = -1

    def __call__(self, prediction: Prediction) -> Tensor:
        return prediction.logits.gather(1, prediction.target_class(self.name)[:, None])[:, 0]


@dataclass(frozen=True)
class FirstOrder(Reader):
    r"""A reader of ``first_order``, with the metric and the intervention that its values are for.

    .. math:: d_{e,u} = \text{damage} \cdot \sum_t (\tilde z^{(u)}_e[t] - z^{(u)}_e[t])
              \cdot \frac{\partial\, m_e}{\partial z^{(u)}_e[t]}

    z is what the unit hands on, :math:`\tilde z` what the intervention replaces it by at its positions, m the metric.
    A reader without them is given the drop of the target's output if a unit is zeroed at all positions.

    A reader with ``steps`` is given gradients averaged over as many inputs on the straight path to the counterfactual.
    """

    reader: Reader
    intervention: Intervention = field(default_factory=_Zeroed)
    metric: Metric = field(default_factory=_TargetOutput)
    source: ClassVar[Source] = "first_order"

    @classmethod
    def among(cls, readers: Mapping[str, Reader]) -> dict[str, FirstOrder]:
        """The readers of ``first_order``, by name."""
        return {
            name: reader if isinstance(reader, cls) else cls(reader)
            for name, reader in readers.items()
            if reader.source == cls.source
        }

    @property
    def steps(self) -> int:
        """How many inputs on the path to the counterfactual gradients are averaged over; 0: at the example itself."""
        return int(getattr(self.reader, "steps", 0))

    def read(self, rows: Rows) -> Float[np.ndarray, "examples units *rest"]:
        """What the reader makes of these values."""
        return self.reader.read(rows)

    def fingerprint(self) -> str:
        """Digest of the three methods."""
        return digest([identity(method) for method in (self.reader, self.intervention, self.metric)])

    def differentiable(self, prediction: Prediction) -> Tensor:
        """The metric of a prediction whose outputs have gradients. Errors: the metric has none."""
        values = self.metric(prediction)
        if not values.requires_grad:
            raise HarnessError(
                f"metric={self.metric.name} has no gradient, which the first-order effect of an ablation needs.",
                "List a metric first that has one: metric=[logit_difference,accuracy] or metric=[log_odds,accuracy].",
            )
        return values
