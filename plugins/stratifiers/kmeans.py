"""Strata of examples on which units behave alike."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Ge
from jaxtyping import Float, Int

from harness import HarnessError, Recording, Rows, Source, Strata, Stratifier, hookimpl


@dataclass(frozen=True)
class KMeans(Stratifier):
    r"""Examples with similar readings of all units: the nearest of ``k`` centres, fitted on the examples proposed on.

    .. math:: s(e) = \arg\min_c \lVert x_e - \mu_c \rVert_2, \qquad x_e \text{: readings of all units, side by side}

    With ``reads=router`` these are the strata of routing regimes. A centre with fewer than ``smallest`` examples is no
    stratum; its examples are in none.

    Input: readings [examples, units, ...] at the query. Output: strata ``stratum 0`` .. in the order of the centres.

    Errors: fewer examples than centres; no centre with enough examples.
    Source: the route strata of the closure paper (k-means with one random start and 300 iterations).
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
        from sklearn.cluster import KMeans as Clustering

        readings = _flat(recording)
        if len(readings) < self.k:
            raise HarnessError(
                f"stratifier kmeans: {len(readings)} examples are proposed on, which is fewer than k={self.k}.",
                "Use more examples (batch.n=...), or a smaller stratifier.k.",
            )
        fitted = Clustering(self.k, init="random", n_init=1, max_iter=300, random_state=self.seed).fit(readings)
        kept = np.flatnonzero(np.bincount(fitted.labels_, minlength=self.k) >= self.smallest)
        if not len(kept):
            raise HarnessError(
                f"stratifier kmeans: none of {self.k} centres has {self.smallest} of the {len(readings)} examples.",
                "Use more examples (batch.n=...), or a smaller stratifier.smallest or stratifier.k.",
            )
        place = np.full(self.k, -1)
        place[kept] = np.arange(len(kept))

        def rule(other: Recording) -> Int[np.ndarray, " examples"]:
            strata: Int[np.ndarray, " examples"] = place[fitted.predict(_flat(other))]
            return strata

        return Strata(tuple(f"stratum {centre}" for centre in kept), rule)


def _flat(recording: Recording) -> Float[np.ndarray, "examples numbers"]:
    readings = recording.readings["stratifier"]
    return readings.reshape(len(readings), -1).astype(np.float64)


@hookimpl
def harness_stratifiers() -> list[type[KMeans]]:
    return [KMeans]
