"""Damage by ablating each unit, with gradients averaged on the way to the counterfactual: a supervised reference."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Ge
from jaxtyping import Float

from harness import Rows, Signal, Source, hookimpl


@dataclass(frozen=True)
class IntegratedGradients(Signal):
    r"""The damage by ablating each unit, with the gradient averaged over inputs between example and counterfactual.

    .. math:: a_{e,u} = \text{damage} \cdot \sum_t \bigl(\tilde z^{(u)}_e[t] - z^{(u)}_e[t]\bigr) \cdot
              \frac1S \sum_{s=1}^{S} \frac{\partial\, m_e}{\partial z^{(u)}_e[t]}
              \Bigr|_{x_e + \frac{s - 1/2}{S} (x'_e - x_e)}

    x and x' are the inputs of the example and of its counterfactual (token embeddings, or vectors). The rest is as in
    ``attribution``, which takes the gradient at x alone and misses units whose effect is flat there, behind a saturated
    softmax. With ``intervention=patching``, :math:`\tilde z` is the output in the counterfactual's run. The signal uses
    target and gradient: it is a reference for unsupervised signals, not a competitor.

    Input: first-order damage [examples, units, 1]. Output: activity [examples, units] in units of the metric. Cost: S
    forward and backward passes, and one forward pass more.

    Errors: a batch without counterfactuals; those of ``attribution``.
    Source: Sundararajan et al. 2017; Hanna et al. 2024 (EAP-IG, of inputs), here for units instead of edges and by the
    midpoint rule.
    """

    name: ClassVar[str] = "integrated_gradients"
    source: ClassVar[Source] = "first_order"
    steps: Annotated[int, Ge(1)] = field(default=5, metadata={"help": "points on the way to the counterfactual"})

    def read(self, rows: Rows) -> Float[np.ndarray, "examples heads"]:
        return rows.values[:, :, 0]


@hookimpl
def harness_signals() -> list[type[IntegratedGradients]]:
    return [IntegratedGradients]
