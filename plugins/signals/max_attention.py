"""Maximum attention at the query."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from harness import Rows, Signal, Source, hookimpl


@dataclass(frozen=True)
class MaxAttention(Signal):
    r"""How focused a head is at the query: its largest attention weight.

    .. math:: a_{e,h} = \max_{t \le q_e} A^{(h)}_{e}[q_e, t]

    Input: attention rows at the query [examples, heads, keys]. Output: activity [examples, units] in [0, 1].
    If the query position varies, the maximum of a diffuse head is nearly a function of the position; the transform
    ``residualize`` removes this.
    Source: closure paper, section 3.3 (template-free signal).
    """

    name: ClassVar[str] = "max_attention"
    source: ClassVar[Source] = "attention"

    def read(self, rows: Rows) -> Float[np.ndarray, "examples heads"]:
        highest: Float[np.ndarray, "examples heads"] = rows.values.max(axis=-1)
        return highest


@hookimpl
def harness_signals() -> list[type[MaxAttention]]:
    return [MaxAttention]
