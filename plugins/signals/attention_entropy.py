"""Entropy of attention at the query."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from harness import Activity, Recording, Rows, Source, hookimpl


@dataclass(frozen=True)
class AttentionEntropy:
    r"""How little of a choice a head leaves open at the query: minus the entropy of its attention, in nats.

    .. math:: a_{e,h} = \sum_{t \le q_e} A^{(h)}_{e}[q_e, t] \log A^{(h)}_{e}[q_e, t], \qquad 0 \log 0 = 0

    Sign: focused is high, as in ``max_attention``. 0 is one key; :math:`-\log(q_e + 1)` is all keys alike, so that on
    batches whose query position varies a diffuse head's activity is a function of the position: see the transforms.

    Input: attention rows at the query [examples, heads, keys]. Output: activity [examples, units] in nats, at most 0.
    Source: closure paper, section 3.3 (named there as the alternative to maximum attention, not used).
    """

    name: ClassVar[str] = "attention_entropy"
    source: ClassVar[Source] = "attention"

    def read(self, rows: Rows) -> Float[np.ndarray, "examples heads"]:
        weights = rows.values.astype(np.float64)
        logs = np.log(weights, where=weights > 0, out=np.zeros_like(weights))
        negated: Float[np.ndarray, "examples heads"] = (weights * logs).sum(axis=-1)
        return negated

    def __call__(self, recording: Recording) -> Activity:
        return Activity(recording.readings["signal"], recording.units)


@hookimpl
def harness_signals() -> list[type[AttentionEntropy]]:
    return [AttentionEntropy]
