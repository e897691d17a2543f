"""Number of keys that attention at the query is spread over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from harness import Activity, Recording, Rows, Source, hookimpl


@dataclass(frozen=True)
class EffectiveKeys:
    r"""How many keys a head looks at from the query: the inverse participation of its attention.

    .. math:: a_{e,h} = \Bigl(\sum_{t \le q_e} A^{(h)}_{e}[q_e, t]^2\Bigr)^{-1}

    A row that is even over n keys gives n, whatever it does not look at. Sign: focused is low, unlike in
    ``max_attention``; affinities that compare units with each other do not mind.

    Input: attention rows at the query [examples, heads, keys]. Output: activity [examples, units] in keys, from 1 to
    :math:`q_e + 1`: on batches whose query position varies, see the transforms that take it out.
    Source: Hill 1973, "Diversity and evenness" (the number of order 2).
    """

    name: ClassVar[str] = "effective_keys"
    source: ClassVar[Source] = "attention"

    def read(self, rows: Rows) -> Float[np.ndarray, "examples heads"]:
        keys: Float[np.ndarray, "examples heads"] = 1 / np.square(rows.values, dtype=np.float64).sum(axis=-1)
        return keys

    def __call__(self, recording: Recording) -> Activity:
        return Activity(recording.readings["signal"], recording.units)


@hookimpl
def harness_signals() -> list[type[EffectiveKeys]]:
    return [EffectiveKeys]
