"""First-order damage by ablating each unit: the supervised reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from harness import Rows, Signal, Source, hookimpl


@dataclass(frozen=True)
class Attribution(Signal):
    r"""The damage by ablating each unit, to first order: a supervised reference.

    .. math:: a_{e,u} = \text{damage} \cdot \sum_t \bigl(\tilde z^{(u)}_e[t] - z^{(u)}_e[t]\bigr)
              \cdot \frac{\partial\, m_e}{\partial z^{(u)}_e[t]}

    z is what the unit hands on (a head: its input to the output projection), m the first metric of the cell, damage its
    sign. :math:`\tilde z` is what the cell's intervention replaces z by at its positions t: 0, a mean, the output in
    the run of the counterfactual, ... Means are taken over the recorded examples. A positive value means that the unit
    supports the answer. The signal uses the target and the gradient, which unsupervised signals do not. It is a
    reference for them, not a competitor.

    All units together need one forward and one backward pass, and the passes of the intervention. The approximation is
    linear around the baseline run. Where a norm or a softmax saturates, the ablation itself can give a different
    result. A metric that is smallest at the baseline (``kl_to_baseline``, ``squared_error``) has no first-order effect.

    Input: first-order damage [examples, units, 1]. Output: activity [examples, units] in units of the metric.

    Errors: a first metric without a gradient (``accuracy``, ``target_rank``), or one that the targets do not allow.
    Source: with zero, Michel et al. 2019 (the same product for the loss, in absolute value, as the importance of a
    head); with counterfactuals, Nanda 2023 (attribution patching); Kramár et al. 2024 on where both fail.
    """

    name: ClassVar[str] = "attribution"
    source: ClassVar[Source] = "first_order"

    def read(self, rows: Rows) -> Float[np.ndarray, "examples heads"]:
        return rows.values[:, :, 0]


@hookimpl
def harness_signals() -> list[type[Attribution]]:
    return [Attribution]
