"""Correlations between nearest neighbours."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from harness.errors import HarnessError
from harness.groups import Affinity
from harness.hookspecs import hookimpl
from harness.recording import Activity, Spins
from harness.seeds import rng_for


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
    independently, over all pairs and permutations.

    Input: observations [n_observations, n_units], spins or activity. Output: affinity [n_units, n_units] in [0, 1].
    ``diagnostics`` hold the ``k`` and ``threshold`` that were used, the units that never change (``constant``) and
    those that vary but have no neighbour (``isolated``).

    Errors: ``k`` below 1, ``threshold`` or ``quantile`` outside [0, 1], negative ``permutations``.
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
        matrix = np.zeros((len(units), len(units)))
        varying = np.array([unit for unit in units.canonical if unit not in constant], dtype=int)
        n = len(varying)
        k = min(self.k or max(min(10, n // 4), round(math.sqrt(n)), 1), max(n - 1, 1))
        threshold = self.threshold
        if n > 1:
            values = observations.values[:, varying].astype(np.float64)
            threshold = max(threshold, self._chance(values))
            rho = _correlations(values)
            rho[rho <= threshold] = 0.0
            near = (rho > 0) & (rho >= np.sort(rho, axis=1)[:, -k, None])
            matrix[np.ix_(varying, varying)] = np.where(near & near.T if self.mutual else near | near.T, rho, 0.0)
        notes = {
            "constant": units.names(constant),
            "isolated": units.names(np.sort(varying[~matrix[varying].any(axis=1)])),
            "k": k,
            "threshold": float(threshold),
        }
        return Affinity(matrix, units, notes)

    def _chance(self, values: Float[np.ndarray, "observations varying"]) -> float:
        """The ``quantile`` of correlations between shuffled columns; -1 where nothing is shuffled."""
        if not self.permutations:
            return -1.0
        rng = rng_for(self.seed, "pearson_knn permutations")
        pairs = np.triu_indices(values.shape[1], 1)
        found = [_correlations(rng.permuted(values, axis=0))[pairs] for _ in range(self.permutations)]
        return float(np.quantile(found, self.quantile))


def _correlations(values: Float[np.ndarray, "observations varying"]) -> Float[np.ndarray, "varying varying"]:
    """Rounded, so that equal correlations tie in whatever order a matrix product added them up; zero diagonal."""
    found = np.atleast_2d(np.corrcoef(values, rowvar=False))
    rho: Float[np.ndarray, "varying varying"] = np.round((found + found.T) / 2, 12)
    np.fill_diagonal(rho, 0.0)
    return rho


@hookimpl
def harness_affinities() -> list[type[PearsonKnn]]:
    return [PearsonKnn]
