"""Norm of what a head writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from harness import Rows, Signal, Source, hookimpl


@dataclass(frozen=True)
class OutputNorm(Signal):
    r"""How much a head writes to the residual stream at the query, whatever it attends to.

    .. math:: a_{e,h} = \lVert z^{(h)}_{e}[q_e]\, W_O^{(h)} \rVert_2

    z is the head's input to the output projection. A head that attends to the first token often writes almost nothing:
    its attention is high and its norm is small. The bias of the projection is excluded, because it belongs to no head.
    A norm or factor that the model applies to the sum of the heads is excluded too.

    Input: contributions [examples, heads, d_model]. Output: activity [examples, units] in units of the residual
    stream, 0 or more. Layers differ in scale.

    Errors: a model that gates or normalises heads before the projection.
    Source: closure paper, section 3.3 (named there as the function-aligned alternative, not used).
    """

    name: ClassVar[str] = "output_norm"
    source: ClassVar[Source] = "contribution"

    def read(self, rows: Rows) -> Float[np.ndarray, "examples units"]:
        norms: Float[np.ndarray, "examples units"] = np.linalg.norm(rows.values, axis=2)
        return norms


@hookimpl
def harness_signals() -> list[type[OutputNorm]]:
    return [OutputNorm]
