"""Whether a unit is active at the query."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Ge
from jaxtyping import Bool, Float

from harness import Rows, Signal, Source, hookimpl


@dataclass(frozen=True)
class Usage(Signal):
    r"""Whether a unit is active at the query, 0 or 1. Its score is its usage: one minus its sparsity.

    .. math:: a_{e,u} = \bigl[\, \lVert z^{(u)}_{e} \rVert_2 > \text{threshold} \,\bigr], \qquad
              \text{score}_u = \operatorname{mean}_e a_{e,u}

    z is what the unit hands on; for one number, the norm is its absolute value. For units that are exactly zero on most
    examples: neurons behind a ReLU, latents of a sparse autoencoder, experts. Other units are always active, unless the
    threshold is higher. ``diagnostics.dead`` and ``diagnostics.always_on`` of the signal name the units that cannot be
    clustered. Combine it with ``binarizer=mean`` or ``binarizer=none``: the median of a unit that is active in more
    than half of the examples is 1, and no activity lies above it.

    Input: values of the source [examples, units, width]. Output: activity [examples, units], 0 or 1; scores [units] in
    [0, 1].

    Errors: a source that the subject does not have.
    Source: the density (or L0) of features of sparse autoencoders, Bricken et al. 2023.
    """

    name: ClassVar[str] = "usage"
    source: Source = field(default="activation", metadata={"help": "the values to read, by name"})
    threshold: Annotated[float, Ge(0)] = field(default=0.0, metadata={"help": "active: a norm above this"})

    def read(self, rows: Rows) -> Float[np.ndarray, "examples units"]:
        active: Bool[np.ndarray, "examples units"] = np.linalg.norm(rows.values, axis=2) > self.threshold
        return active.astype(np.float32)


@hookimpl
def harness_signals() -> list[type[Usage]]:
    return [Usage]
