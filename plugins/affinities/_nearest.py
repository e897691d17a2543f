"""The k most correlated other columns of each column, exactly: all pairs are compared, in blocks."""

from __future__ import annotations

import math
from threading import Lock

import numpy as np
from jaxtyping import Float, Int, Shaped

from harness import HarnessError, spread

BLOCK = 2048
"""Units per block. Comparing two blocks over 5000 observations takes 0.2 GiB on each core."""
DIGITS = 12
"""Digits of correlations: further digits depend on the order in which a matrix product is summed."""


def nearest(
    values: Shaped[np.ndarray, "observations units"], among: Int[np.ndarray, " varying"], k: int, threshold: float
) -> tuple[Int[np.ndarray, " links"], Int[np.ndarray, " links"], Float[np.ndarray, " links"]]:
    """Links from each unit of ``among`` to its neighbours: unit, neighbour, and correlation rounded to ``DIGITS``.

    Neighbours are the k most correlated other units and all that tie with the k-th, if above ``threshold`` (0 or more).
    Products are float64, and half of them suffice, because a pair has one correlation. float32 would be twice as fast,
    but separating ties from near ties would need a second pass over the observations of every neighbour.

    Errors: columns that cannot be squared; too many ties to bound the number of neighbours.
    """
    blocks = np.array_split(among, math.ceil(len(among) / BLOCK) or 1)
    best = [_Nearest(block, k, threshold) for block in blocks]
    for a, rows in enumerate(best):
        standard = standardised(values[:, rows.units])

        def compare(b: int, a: int = a, rows: _Nearest = rows, standard: np.ndarray = standard) -> None:
            if a == b:
                rho = standard.T @ standard
                np.fill_diagonal(rho, -1.0)
            else:
                rho = standard.T @ standardised(values[:, best[b].units])
                best[b].update(rows.units, rho.T)
            rows.update(best[b].units, rho)

        spread(compare, range(a, len(best)))
    i, j, rho = (np.concatenate(parts) for parts in zip(*(rows.links() for rows in best), strict=True))
    return i, j, rho


class _Nearest:
    """The nearest so far of a block of units: ``top`` [units, k] correlations, and all units that reach the k-th."""

    def __init__(self, units: Int[np.ndarray, " units"], k: int, threshold: float) -> None:
        self.units, self.threshold = units, threshold
        self.top = np.full((len(units), k), threshold)
        self.rows, self.others, self.rho = np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0)
        self.lock = Lock()

    def update(self, others: Int[np.ndarray, " others"], rho: Float[np.ndarray, "units others"]) -> None:
        """Add the correlations with these others. The order of the updates does not change the links."""
        with self.lock:
            k = self.top.shape[1]
            self.top = np.partition(np.concatenate([self.top, rho], axis=1), -k, axis=1)[:, -k:].copy()
            least = self.top[:, 0] - 10.0**-DIGITS  # after rounding, these may equal the k-th
            stay = self.rho >= least[self.rows]
            new = np.nonzero(rho >= least[:, None])
            self.rows = np.concatenate([self.rows[stay], new[0].astype(np.int32)])
            self.others = np.concatenate([self.others[stay], others[new[1]].astype(np.int32)])
            self.rho = np.concatenate([self.rho[stay], rho[new]])
            if len(self.rho) > 10**6 + 8 * self.top.size:
                raise HarnessError(
                    f"affinity pearson_knn: with k={k}, {len(self.units)} units have {len(self.rho)} neighbours, "
                    "because many correlations are equal.",
                    "Spins of few examples tie. Use more examples (batch.n) or activity itself (binarizer=none).",
                )

    def links(self) -> tuple[Int[np.ndarray, " links"], Int[np.ndarray, " links"], Float[np.ndarray, " links"]]:
        """Units, their neighbours and correlations."""
        rho = self.rho.round(DIGITS)
        kept = (rho >= self.top[:, 0].round(DIGITS)[self.rows]) & (rho > self.threshold)
        return self.units[self.rows[kept]], self.others[kept].astype(np.int64), rho[kept]


def standardised(values: Shaped[np.ndarray, "observations units"]) -> Float[np.ndarray, "observations units"]:
    """Columns with mean zero and length one: their products are correlations.

    Errors: a column whose square overflows or vanishes.
    """
    centred: np.ndarray = values - values.mean(axis=0, dtype=np.float64)
    length = np.linalg.norm(centred, axis=0)
    if not ((length > 0) & (length < np.inf)).all():
        raise HarnessError(
            "affinity pearson_knn: the activity of some units is too large or too small to be squared.",
            "Scale all units alike: transform=standardize",
        )
    centred /= length
    return centred
