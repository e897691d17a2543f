"""First-order effect of ablating each unit: the supervised reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from harness import Rows, Signal, Source, hookimpl


@dataclass(frozen=True)
class Attribution(Signal):
    r"""How much a unit contributes to the target's logit, to first order: a supervised reference.

    .. math:: a_{e,u} = \sum_{t \le q_e} z^{(u)}_{e}[t] \cdot \frac{\partial\, \ell_e}{\partial z^{(u)}_{e}[t]}
              \approx \ell_e - \ell_e\bigl(z^{(u)} \to 0\bigr)

    z is what the unit hands on (a head: its input to the output projection), :math:`\ell_e` the logit of the target at
    the query. A positive value means that the unit supports the answer: zeroing it at all positions lowers the logit.
    The signal uses the target and the gradient, which unsupervised signals do not. It is a reference for them, not a
    competitor.

    All units together need one forward and one backward pass. The approximation is linear around the baseline run.
    Where a norm or a softmax saturates, the ablation itself can give a different result.

    Input: first-order drops [examples, units, 1]. Output: activity [examples, units] in logits.

    Errors: targets that are vectors, which have no logit.
    Source: Michel et al. 2019 (the same product for the loss, in absolute value, as the importance of a head);
    Kramár et al. 2024 on where such approximations fail.
    """

    name: ClassVar[str] = "attribution"
    source: ClassVar[Source] = "first_order"

    def read(self, rows: Rows) -> Float[np.ndarray, "examples heads"]:
        return rows.values[:, :, 0]


@hookimpl
def harness_signals() -> list[type[Attribution]]:
    return [Attribution]
