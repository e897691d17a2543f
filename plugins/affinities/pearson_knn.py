"""Correlations between nearest neighbours."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import scipy  # scipy.sparse is loaded where it is first named: listing must stay fast
from harness_plugins.affinities._nearest import DIGITS, nearest, standardised
from jaxtyping import Int, Shaped

from harness import Activity, Affinity, HarnessError, Spins, hookimpl, rng_for

SHUFFLED = 10**7
"""Pairs of shuffled columns, over all permutations."""


@dataclass(frozen=True)
class PearsonKnn:
    r"""Positive correlation between units that are among each other's nearest neighbours.

    .. math:: a_{ij} = \rho_{ij} \text{ if } \rho_{ij} > \tau,\ \rho_{ij} \ge \rho_{i(k)}
              \text{ and } \rho_{ij} \ge \rho_{j(k)}, \text{ else } 0

    :math:`\rho_{i(k)}` is the ``k``-th largest correlation of unit ``i`` with another; all that equal it are neighbours
    too (spins of few examples tie often). Without ``mutual``, one of the two units is enough. By default ``k`` is
    :math:`\max(\min(10, \lfloor n/4 \rfloor), \operatorname{round} \sqrt n)` for ``n`` units that vary: at least 10 or
    :math:`\sqrt n` as published, but for few units, where 10 would make everybody a neighbour, less.
    With ``permutations``, :math:`\tau` is at least the ``quantile`` of correlations between columns that are shuffled
    independently: over all permutations and pairs, or where these are more than ten million in all, over the pairs of
    as many units, drawn anew in each permutation, as make ten million (the standard error of :math:`\tau` is then
    0.04 % of it at ``quantile`` 0.95, 0.1 % at 0.999).

    Input: observations [n_observations, n_units], spins or activity. Output: sparse affinity [n_units, n_units] in
    [0, 1]. Exact, as a search for approximate neighbours is not, and in bounded memory: units are compared
    block by block on all cores, and only the k nearest are kept.
    ``diagnostics`` hold the ``k`` and ``threshold`` that were used, the units that never change (``constant``) and
    those that vary but have no neighbour (``isolated``).

    Errors: ``k`` below 1, ``threshold`` or ``quantile`` outside [0, 1], negative ``permutations``; activity too large
    or small to be squared; so many units with equal correlations that neighbours would be without number.
    Source: the mutual k-nearest-neighbour graph of the spectral clustering of SPD subcomponents.
    """

    name: ClassVar[str] = "pearson_knn"
    k: int | None = field(default=None, metadata={"help": "neighbours per unit; null: by the number of units"})
    mutual: bool = field(default=True, metadata={"help": "both among the other's nearest; false: one is enough"})
    threshold: float = field(default=0.0, metadata={"help": "a correlation must be above it"})
    permutations: int = field(default=0, metadata={"help": "shuffles that raise the threshold to what chance gives"})
    quantile: float = field(default=0.95, metadata={"help": "of the shuffled correlations"})
    seed: int = field(default=0, metadata={"help": "of the permutations"})

    def __post_init__(self) -> None:
        if self.k is not None and self.k < 1:
            raise HarnessError(f"affinity.k={self.k}: a unit needs at least one neighbour.", "By size: affinity.k=null")
        if not (0 <= self.threshold <= 1 and 0 <= self.quantile <= 1):
            raise HarnessError(
                f"affinity.threshold={self.threshold}, affinity.quantile={self.quantile}: both lie between 0 and 1."
            )
        if self.permutations < 0:
            raise HarnessError(f"affinity.permutations={self.permutations}: a number of shuffles cannot be negative.")

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
        """The ``quantile`` of correlations between shuffled columns; -1 where nothing is shuffled."""
        if not self.permutations:
            return -1.0
        rng = rng_for(self.seed, "pearson_knn permutations")
        few = min(len(varying), max(2, math.isqrt(2 * SHUFFLED // self.permutations)))
        pairs = np.triu_indices(few, 1)
        found = []
        for _ in range(self.permutations):
            drawn = varying if few == len(varying) else np.sort(rng.choice(varying, few, replace=False))
            shuffled = standardised(rng.permuted(values[:, drawn].astype(np.float64), axis=0))
            found.append((shuffled.T @ shuffled)[pairs].round(DIGITS))
        return float(np.quantile(found, self.quantile))


@hookimpl
def harness_affinities() -> list[type[PearsonKnn]]:
    return [PearsonKnn]
