"""First-order effect of ablating each unit: the supervised reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from harness import Activity, Recording, Rows, Source, hookimpl


@dataclass(frozen=True)
class Attribution:
    r"""How much of the target's logit a unit carries, to first order: a supervised reference, not a cheap proposal.

    .. math:: a_{e,h} = \sum_{t \le q_e} z^{(h)}_{e}[t] \cdot \frac{\partial\, \ell_e}{\partial z^{(h)}_{e}[t]}
              \approx \ell_e - \ell_e\bigl(z^{(h)} \to 0\bigr)

    with z what the head hands to the output projection and :math:`\ell_e` the logit of the target at the query.
    Positive: the head supports the answer, and zeroing it at all positions damages the prediction. It reads the target
    and the gradient, which unsupervised signals do not: they are held against it, it does not compete with them.

    One forward and one backward pass for all heads together, because zero is known beforehand; patching from a
    counterfactual run would take a second forward pass, of the counterfactual. Far from the baseline run the line is not
    the curve: where a norm or a softmax saturates, the ablation itself says something else.

    Input: first-order drops [examples, heads, 1]. Output: activity [examples, units] in logits.
    Source: Michel et al. 2019 (the same product for the loss, in absolute value, as the importance of a head);
    Kramár et al. 2024 on where such lines fail.
    """

    name: ClassVar[str] = "attribution"
    source: ClassVar[Source] = "first_order"

    def read(self, rows: Rows) -> Float[np.ndarray, "examples heads"]:
        return rows.values[:, :, 0]

    def __call__(self, recording: Recording) -> Activity:
        return Activity(recording.readings["signal"], recording.units)


@hookimpl
def harness_signals() -> list[type[Attribution]]:
    return [Attribution]
