"""Maximum attention at the query."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from harness import Activity, Recording, Rows, Signal, Source, hookimpl


@dataclass(frozen=True)
class MaxAttention(Signal):
    r"""How sharply a head looks anywhere from the query position.

    .. math:: a_{e,h} = \max_{t \le q_e} A^{(h)}_{e}[q_e, t]

    Input: attention rows at the query [examples, heads, keys]. Output: activity [examples, units] in [0, 1].
    On batches whose query position varies, a diffuse head's maximum is nearly a function of the position: see the
    transforms that take it out.
    Source: closure paper, section 3.3 (template-free signal).
    """

    name: ClassVar[str] = "max_attention"
    source: ClassVar[Source] = "attention"

    def read(self, rows: Rows) -> Float[np.ndarray, "examples heads"]:
        highest: Float[np.ndarray, "examples heads"] = rows.values.max(axis=-1)
        return highest

    def __call__(self, recording: Recording) -> Activity:
        return Activity(recording.readings["signal"], recording.units)


@hookimpl
def harness_signals() -> list[type[MaxAttention]]:
    return [MaxAttention]
