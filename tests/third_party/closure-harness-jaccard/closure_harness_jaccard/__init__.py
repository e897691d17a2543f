"""Jaccard similarity as an affinity, with configuration of its own."""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from harness import Affinity, HarnessError, Spins, hookimpl


@dataclass(frozen=True)
class Jaccard:
    r"""Of the observations in which either of two units is up, the share in which both are.

    .. math:: J(i, j) = \frac{|U_i \cap U_j|}{|U_i \cup U_j|}, \qquad U_i = \{e : s_{e,i} = +1\}

    Similarities below ``least`` count as none. Being down together counts for nothing, unlike in mutual information.
    A unit that never changes has no neighbours.

    Input: spins [observations, units] in {-1, +1}. Output: affinity [units, units] in [0, 1], dimensionless.
    Errors: ``least`` outside 0 .. 1.
    Source: Jaccard 1912, The distribution of the flora in the alpine zone, New Phytologist 11.
    """

    name: ClassVar[str] = "jaccard"
    least: float = field(default=0.0, metadata={"help": "similarities below it count as none"})

    def __post_init__(self) -> None:
        if not 0 <= self.least <= 1:
            raise HarnessError(f"affinity.least={self.least}: it must lie in 0 .. 1.", "The default is 0.")

    def __call__(self, spins: Spins) -> Affinity:
        up = (spins.values > 0).astype(float)
        both = up.T @ up
        ups = up.sum(axis=0)
        either = ups[:, None] + ups - both
        matrix = both / np.maximum(either, 1)  # where neither is ever up there is nothing in common
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
