"""Number of keys that attention at the query is spread over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from harness import Rows, Signal, Source, hookimpl


@dataclass(frozen=True)
class EffectiveKeys(Signal):
    r"""The number of keys that a head's attention at the query is spread over: its inverse participation ratio.

    .. math:: a_{e,h} = \Bigl(\sum_{t \le q_e} A^{(h)}_{e}[q_e, t]^2\Bigr)^{-1}

    Equal attention on n keys gives n. Low means focused, the opposite of ``max_attention``; affinities, which compare
    units with each other, do not depend on this sign.

    Input: attention rows at the query [examples, heads, keys]. Output: activity [examples, units] in keys, from 1 to
    :math:`q_e + 1`. If the query position varies, so does this bound; the transform ``residualize`` removes the effect.
    Source: Hill 1973, "Diversity and evenness" (the number of order 2).
    """

    name: ClassVar[str] = "effective_keys"
    source: ClassVar[Source] = "attention"

    def read(self, rows: Rows) -> Float[np.ndarray, "examples heads"]:
        keys: Float[np.ndarray, "examples heads"] = 1 / np.square(rows.values, dtype=np.float64).sum(axis=-1)
        return keys


@hookimpl
def harness_signals() -> list[type[EffectiveKeys]]:
    return [EffectiveKeys]
