"""Mutual information between spins."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Ge

from harness import Affinity, AffinityMethod, Spins, hookimpl


@dataclass(frozen=True)
class MutualInformation(AffinityMethod):
    r"""How much information the spin of one unit gives about the spin of another.

    .. math:: I(i, j) = \sum_{a,b \in \{-1,+1\}} p_{ij}(a, b) \log \frac{p_{ij}(a, b)}{p_i(a)\,p_j(b)}

    One matrix product gives the four joint counts of every pair. ``pseudocount`` is added to each of them; the
    marginals are those of the smoothed table.

    Input: spins [n_observations, n_units]. Output: affinity [n_units, n_units] in nats, in [0, ln 2].
    The sign is lost: two units that are always opposite have as much information as two that always agree.
    A unit with constant spins has none: its row is zero, and ``diagnostics.constant`` lists it.

    Source: Cover & Thomas, section 2.3; closure paper, section 8.3 (compared, not shown).
    """

    name: ClassVar[str] = "mutual_information"
    pseudocount: Annotated[float, Ge(0)] = field(
        default=0.0, metadata={"help": "added to each of the four joint counts of a pair"}
    )

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
        matrix = np.maximum(terms.sum(axis=0), 0.0)  # by rounding, independent units have -1e-17
        np.fill_diagonal(matrix, 0.0)
        constant = list(spins.constant)  # with a pseudocount they would have neighbours
        matrix[constant, :] = matrix[:, constant] = 0.0
        return Affinity((matrix + matrix.T) / 2, spins.units, {"constant": spins.units.names(spins.constant)})


@hookimpl
def harness_affinities() -> list[type[MutualInformation]]:
    return [MutualInformation]
