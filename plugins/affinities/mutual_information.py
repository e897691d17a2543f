"""Mutual information between spins."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from harness import Affinity, HarnessError, Spins, hookimpl


@dataclass(frozen=True)
class MutualInformation:
    r"""How much one unit's spin tells about another's.

    .. math:: I(i, j) = \sum_{a,b \in \{-1,+1\}} p_{ij}(a, b) \log \frac{p_{ij}(a, b)}{p_i(a)\,p_j(b)}

    The four joint counts of every pair come from one matrix product; ``pseudocount`` is added to each of them, and the
    marginals are those of the smoothed table.

    Input: spins [n_observations, n_units]. Output: affinity [n_units, n_units] in nats, in [0, ln 2].
    Blind to sign: units that are always opposite are as informative as units that are always alike.
    A constant unit has no information and no neighbours.

    Errors: negative pseudocount.
    Source: Cover & Thomas, section 2.3; closure paper, section 8.3 (compared, not shown).
    """

    name: ClassVar[str] = "mutual_information"
    pseudocount: float = field(default=0.0, metadata={"help": "added to each of the four joint counts of a pair"})

    def __post_init__(self) -> None:
        if self.pseudocount < 0:
            raise HarnessError(f"affinity.pseudocount={self.pseudocount}: a count cannot be negative.")

    def __call__(self, spins: Spins) -> Affinity:
        up = (spins.values > 0).astype(np.float64)
        n = len(up)
        both = up.T @ up
        ups = np.diagonal(both)
        only_i, only_j = ups[:, None] - both, ups[None, :] - both
        joint = np.stack([both, only_i, only_j, n - both - only_i - only_j]) + self.pseudocount
        joint /= joint.sum(axis=0)
        p_i, p_j = joint[0] + joint[1], joint[0] + joint[2]
        independent = np.stack([p_i * p_j, p_i * (1 - p_j), (1 - p_i) * p_j, (1 - p_i) * (1 - p_j)])
        with np.errstate(divide="ignore", invalid="ignore"):
            terms = np.where(joint > 0, joint * np.log(joint / independent), 0.0)
        matrix = np.maximum(terms.sum(axis=0), 0.0)  # rounding leaves -1e-17 between independent units
        np.fill_diagonal(matrix, 0.0)
        constant = list(spins.constant)  # smoothing alone would give them neighbours
        matrix[constant, :] = matrix[:, constant] = 0.0
        return Affinity((matrix + matrix.T) / 2, spins.units, {"constant": spins.units.names(spins.constant)})


@hookimpl
def harness_affinities() -> list[type[MutualInformation]]:
    return [MutualInformation]
