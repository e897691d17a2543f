"""Correlations between nearest neighbours."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import numpy as np
import scipy  # scipy.sparse is loaded at its first use: listing must stay fast
from annotated_types import Ge, Interval
from harness_plugins.affinities._nearest import DIGITS, nearest, standardised
from jaxtyping import Int, Shaped

from harness import Activity, Affinity, AffinityMethod, Spins, hookimpl, rng_for

SHUFFLED = 10**7
"""Largest number of pairs of shuffled columns, over all permutations."""


@dataclass(frozen=True)
class PearsonKnn(AffinityMethod):
    r"""Positive correlation between units that are among each other's nearest neighbours.

    .. math:: a_{ij} = \rho_{ij} \text{ if } \rho_{ij} > \tau,\ \rho_{ij} \ge \rho_{i(k)}
              \text{ and } \rho_{ij} \ge \rho_{j(k)}, \text{ else } 0

    :math:`\rho_{i(k)}` is the ``k``-th largest correlation of unit ``i`` with another unit. All units that tie with the
    k-th are neighbours too (spins of few examples tie often). Without ``mutual``, one of the two conditions is enough.
    By default ``k`` is :math:`\max(\min(10, \lfloor n/4 \rfloor), \operatorname{round} \sqrt n)` for ``n`` units that
    vary: at least 10 or :math:`\sqrt n` as published, but fewer for few units, where 10 would connect all of them.

    :math:`\tau` is ``threshold``. With ``permutations`` it is at least the ``quantile`` of the correlations between
    independently shuffled columns, over all permutations and pairs. If these are more than ten million, each
    permutation uses a new random subset of units, so that there are about ten million pairs in all (the standard error
    of :math:`\tau` is then 0.04 % of it at ``quantile`` 0.95, and 0.1 % at 0.999).

    Input: observations [n_observations, n_units], spins or activity. Output: sparse affinity [n_units, n_units] in
    [0, 1]. It is exact, unlike approximate nearest-neighbour search, and memory is bounded: units are compared in
    blocks on all cores, and only the k nearest are kept.
    ``diagnostics`` give the ``k`` and ``threshold`` that were used, the units with constant observations
    (``constant``), and units that vary but have no neighbour (``isolated``).

    Errors: activity too large or too small to be squared; so many equal correlations that the number of neighbours is
    not bounded by ``k``.
    Source: the mutual k-nearest-neighbour graph of the spectral clustering of SPD subcomponents.
    """

    name: ClassVar[str] = "pearson_knn"
    k: Annotated[int, Ge(1)] | None = field(
        default=None, metadata={"help": "neighbours per unit; null: by the number of units"}
    )
    mutual: bool = field(
        default=True, metadata={"help": "each among the other's nearest; false: one of them is enough"}
    )
    threshold: Annotated[float, Interval(ge=0, le=1)] = field(
        default=0.0, metadata={"help": "smaller or equal correlations are set to zero"}
    )
    permutations: Annotated[int, Ge(0)] = field(
        default=0, metadata={"help": "shuffles that raise the threshold to chance level"}
    )
    quantile: Annotated[float, Interval(ge=0, le=1)] = field(
        default=0.95, metadata={"help": "quantile of the shuffled correlations that is the chance level"}
    )
    seed: int = field(default=0, metadata={"help": "seed of the permutations"})

    def __call__(self, observations: Spins | Activity) -> Affinity:
        units, constant = observations.units, observations.constant
        varies = np.ones(len(units), dtype=bool)
        varies[list(constant)] = False
        varying = units.canonical[varies[units.canonical]]
        n = len(varying)
        k = min(self.k or max(min(10, n // 4), round(math.sqrt(n)), 1), max(n - 1, 1))
        threshold = max(self.threshold, self._chance(observations.values, varying)) if n > 1 else self.threshold
        i, j, rho = nearest(observations.values, varying, k, threshold)
        near = scipy.sparse.csr_array((rho, (i, j)), shape=(len(units), len(units)))
        matrix = near.minimum(near.T) if self.mutual else near.maximum(near.T)
        matrix.eliminate_zeros()
        notes = {
            "constant": units.names(constant),
            "isolated": units.names(np.flatnonzero(varies & (np.diff(matrix.indptr) == 0))),
            "k": k,
            "threshold": float(threshold),
        }
        return Affinity(matrix, units, notes)

    def _chance(self, values: Shaped[np.ndarray, "observations units"], varying: Int[np.ndarray, " varying"]) -> float:
        """The ``quantile`` of correlations between shuffled columns; -1 without permutations."""
        if not self.permutations:
            return -1.0
        rng = rng_for(self.seed, "pearson_knn permutations")
        count = min(len(varying), max(2, math.isqrt(2 * SHUFFLED // self.permutations)))
        pairs = np.triu_indices(count, 1)
        correlations = []
        for _ in range(self.permutations):
            drawn = varying if count == len(varying) else np.sort(rng.choice(varying, count, replace=False))
            shuffled = standardised(rng.permuted(values[:, drawn].astype(np.float64), axis=0))
            correlations.append((shuffled.T @ shuffled)[pairs].round(DIGITS))
        return float(np.quantile(correlations, self.quantile))


@hookimpl
def harness_affinities() -> list[type[PearsonKnn]]:
    return [PearsonKnn]
