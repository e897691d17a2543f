"""Norm of what a head writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from harness import Activity, Recording, Rows, Source, hookimpl


@dataclass(frozen=True)
class OutputNorm:
    r"""How much a head writes to the residual stream at the query, wherever it looks.

    .. math:: a_{e,h} = \lVert z^{(h)}_{e}[q_e]\, W_O^{(h)} \rVert_2

    with z what the head hands to the output projection. A head that rests on the first token often reads nothing there
    and writes nothing: full attention, small norm. The projection's bias belongs to no head and is left out; a norm or
    a factor that the model applies to the sum of the heads comes later and is left out too.

    Input: contributions [examples, heads, d_model]. Output: activity [examples, units] in units of the residual
    stream, 0 or more; layers differ in scale.

    Errors: a model that gates or normalises heads on the way to the projection.
    Source: closure paper, section 3.3 (named there as the function-aligned alternative, not used).
    """

    name: ClassVar[str] = "output_norm"
    source: ClassVar[Source] = "contribution"

    def read(self, rows: Rows) -> Float[np.ndarray, "examples heads"]:
        norm: Float[np.ndarray, "examples heads"] = np.linalg.norm(rows.values, axis=-1)
        return norm

    def __call__(self, recording: Recording) -> Activity:
        return Activity(recording.readings["signal"], recording.units)


@hookimpl
def harness_signals() -> list[type[OutputNorm]]:
    return [OutputNorm]
