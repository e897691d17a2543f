"""Jaccard similarity as an affinity, with configuration of its own."""

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Ge, Le

from harness import Affinity, AffinityMethod, Spins, hookimpl


@dataclass(frozen=True)
class Jaccard(AffinityMethod):
    r"""The share of observations with both units active, of those with at least one of them active.

    .. math:: J(i, j) = \frac{|U_i \cap U_j|}{|U_i \cup U_j|}, \qquad U_i = \{e : s_{e,i} = +1\}

    Similarities below ``least`` become zero. Unlike in mutual information, observations with both units inactive do not
    count. A unit that never changes has no neighbours.

    Input: spins [observations, units] in {-1, +1}. Output: affinity [units, units] in [0, 1], dimensionless.
    Source: Jaccard 1912, The distribution of the flora in the alpine zone, New Phytologist 11.
    """

    name: ClassVar[str] = "jaccard"
    least: Annotated[float, Ge(0), Le(1)] = field(default=0.0, metadata={"help": "similarities below it become zero"})

    def __call__(self, spins: Spins) -> Affinity:
        up = (spins.values > 0).astype(float)
        both = up.T @ up
        ups = up.sum(axis=0)
        either = ups[:, None] + ups - both
        matrix = both / np.maximum(either, 1)  # no similarity if neither is ever active
        matrix[matrix < self.least] = 0
        constant = list(spins.constant)
        matrix[constant, :] = matrix[:, constant] = 0
        np.fill_diagonal(matrix, 0)
        return Affinity(matrix, spins.units, {"constant": spins.units.names(constant)})


@hookimpl
def harness_affinities() -> list[type[Jaccard]]:
    return [Jaccard]


@hookimpl
def harness_config_paths() -> list[str]:
    return ["pkg://closure_harness_jaccard.conf"]
