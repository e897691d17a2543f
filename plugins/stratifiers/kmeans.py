"""Strata of examples on which units behave alike."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Ge
from jaxtyping import Float

from harness import Recording, Rows, Source, Strata, Stratifier, hookimpl

from ._strata import around_centres


@dataclass(frozen=True)
class KMeans(Stratifier):
    r"""Examples with similar readings of all units: the nearest of ``k`` centres, fitted on the examples proposed on.

    .. math:: s(e) = \arg\min_c \lVert x_e - \mu_c \rVert_2, \qquad x_e \text{: readings of all units, side by side}

    A centre with fewer than ``smallest`` examples is no stratum; its examples are in none. There is one random start,
    so that clear clusters can be missed. With ``reads=router smallest=80`` and all examples (``split=none``), these are
    the route strata of the closure paper; ``routes`` finds them with less chance.

    Input: readings [examples, units, ...] at the query. Output: strata ``stratum 0`` .. in the order of the centres.

    Errors: fewer examples, or fewer different readings, than centres; no centre with enough examples.
    Source: closure paper, section 5 (k = 4, one random start, 300 iterations).
    """

    name: ClassVar[str] = "kmeans"
    reads: str = field(default="activation", metadata={"help": "source of the readings (harness show subject NAME)"})
    k: Annotated[int, Ge(2)] = field(default=4, metadata={"help": "number of centres"})
    smallest: Annotated[int, Ge(2)] = field(default=40, metadata={"help": "fewest examples of a stratum"})
    seed: int = field(default=0, metadata={"help": "seed of the first centres"})

    @property
    def source(self) -> Source:  # type: ignore[override]  # a parameter chooses it
        """The source that is read."""
        return self.reads

    def read(self, rows: Rows) -> Float[np.ndarray, "examples units _"]:
        """The readings, unchanged."""
        return rows.values

    def __call__(self, recording: Recording) -> Strata:
        return around_centres(
            self.name, "stratum", recording, self.k, self.smallest, self.seed, init="random", starts=1
        )


@hookimpl
def harness_stratifiers() -> list[type[KMeans]]:
    return [KMeans]
