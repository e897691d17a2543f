"""Entropy of attention at the query."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from harness import Rows, Signal, Source, hookimpl


@dataclass(frozen=True)
class AttentionEntropy(Signal):
    r"""How concentrated a head's attention at the query is: minus its entropy.

    .. math:: a_{e,h} = \sum_{t \le q_e} A^{(h)}_{e}[q_e, t] \log A^{(h)}_{e}[q_e, t], \qquad 0 \log 0 = 0

    High means focused, as in ``max_attention``. Attention on one key gives 0; equal attention on all keys gives
    :math:`-\log(q_e + 1)`. If the query position varies, the activity of a diffuse head is therefore a function of the
    position; the transform ``residualize`` removes this.

    Input: attention rows at the query [examples, heads, keys]. Output: activity [examples, units] in nats, at most 0.
    Source: closure paper, section 3.3 (named there as an alternative to maximum attention, not used).
    """

    name: ClassVar[str] = "attention_entropy"
    source: ClassVar[Source] = "attention"

    def read(self, rows: Rows) -> Float[np.ndarray, "examples heads"]:
        weights = rows.values.astype(np.float64)
        logs = np.log(weights, where=weights > 0, out=np.zeros_like(weights))
        negated: Float[np.ndarray, "examples heads"] = (weights * logs).sum(axis=-1)
        return negated


@hookimpl
def harness_signals() -> list[type[AttentionEntropy]]:
    return [AttentionEntropy]
