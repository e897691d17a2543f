"""Random affinities."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from harness import Affinity, AffinityMethod, UnitSpace, hookimpl, rng_for


@dataclass(frozen=True)
class RandomAffinity(AffinityMethod):
    r"""A random number for each pair of units: a baseline without any information.

    .. math:: a_{ij} = a_{ji} \sim U(0, 1)

    Input: units. Output: affinity [n_units, n_units] in [0, 1). The numbers are drawn in the order of layer and index:
    a pair has the same number whatever the order of the units.
    Source: none; a baseline.
    """

    name: ClassVar[str] = "random"
    seed: int = field(default=0, metadata={"help": "seed of the draw"})

    def __call__(self, units: UnitSpace) -> Affinity:
        n = len(units)
        upper = np.triu(rng_for(self.seed, "random affinity").random((n, n)), 1)
        matrix = np.zeros((n, n))
        matrix[np.ix_(units.canonical, units.canonical)] = upper + upper.T
        return Affinity(matrix, units)


@hookimpl
def harness_affinities() -> list[type[RandomAffinity]]:
    return [RandomAffinity]
