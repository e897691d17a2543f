"""The k most correlated others of every column, exactly, block by block: all pairs are seen, only the nearest kept."""

from __future__ import annotations

import math
from threading import Lock

import numpy as np
from jaxtyping import Float, Int, Shaped

from harness import HarnessError, spread

BLOCK = 2048
"""Units that are compared with as many others at once: of 5000 observations, that takes 0.2 GiB on each core."""
DIGITS = 12
"""Equal correlations differ beyond it, by the order in which a matrix product adds up."""


def nearest(
    values: Shaped[np.ndarray, "observations units"], among: Int[np.ndarray, " varying"], k: int, threshold: float
) -> tuple[Int[np.ndarray, " links"], Int[np.ndarray, " links"], Float[np.ndarray, " links"]]:
    """Links from every unit ``among`` these to its neighbours, and their correlations, rounded to ``DIGITS``.

    Neighbours are the k most correlated others and all that equal the k-th, where above ``threshold`` (0 or more).
    In float64: half of its products are spared, as a pair is one number for both. In float32, which is twice as fast,
    ties would have to be told from near ties in a second pass over the observations of every neighbour.

    Errors: columns that cannot be squared; ties so wide that neighbours would be without number.
    """
    blocks = np.array_split(among, math.ceil(len(among) / BLOCK) or 1)
    best = [_Nearest(block, k, threshold) for block in blocks]
    for a, near in enumerate(best):
        mine = standardised(values[:, near.units])

        def compare(b: int, a: int = a, near: _Nearest = near, mine: np.ndarray = mine) -> None:
            if a == b:
                rho = mine.T @ mine
                np.fill_diagonal(rho, -1.0)
            else:
                rho = mine.T @ standardised(values[:, best[b].units])
                best[b].meet(near.units, rho.T)
            near.meet(best[b].units, rho)

        spread(compare, range(a, len(best)))
    i, j, rho = (np.concatenate(of) for of in zip(*(near.links() for near in best), strict=True))
    return i, j, rho


class _Nearest:
    """Of a block of units, the nearest so far: ``top`` [units, k] correlations, and everybody who reaches the k-th."""

    def __init__(self, units: Int[np.ndarray, " units"], k: int, threshold: float) -> None:
        self.units, self.threshold = units, threshold
        self.top = np.full((len(units), k), threshold)
        self.rows, self.others, self.rho = np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0)
        self.turn = Lock()

    def meet(self, others: Int[np.ndarray, " others"], rho: Float[np.ndarray, "units others"]) -> None:
        """Compare with these others; in which order blocks meet changes nothing."""
        with self.turn:
            k = self.top.shape[1]
            self.top = np.partition(np.concatenate([self.top, rho], axis=1), -k, axis=1)[:, -k:].copy()
            least = self.top[:, 0] - 10.0**-DIGITS  # whoever may equal the k-th once rounded
            stay = self.rho >= least[self.rows]
            new = np.nonzero(rho >= least[:, None])
            self.rows = np.concatenate([self.rows[stay], new[0].astype(np.int32)])
            self.others = np.concatenate([self.others[stay], others[new[1]].astype(np.int32)])
            self.rho = np.concatenate([self.rho[stay], rho[new]])
            if len(self.rho) > 10**6 + 8 * self.top.size:
                raise HarnessError(
                    f"affinity pearson_knn: with k={k}, {len(self.units)} units have {len(self.rho)} neighbours, as "
                    "that many correlations are equal.",
                    "Spins of few examples tie: use more of them (batch.n), or the activity itself (binarizer=none).",
                )

    def links(self) -> tuple[Int[np.ndarray, " links"], Int[np.ndarray, " links"], Float[np.ndarray, " links"]]:
        """From whom, to whom, and how correlated."""
        rho = self.rho.round(DIGITS)
        kept = (rho >= self.top[:, 0].round(DIGITS)[self.rows]) & (rho > self.threshold)
        return self.units[self.rows[kept]], self.others[kept].astype(np.int64), rho[kept]


def standardised(values: Shaped[np.ndarray, "observations units"]) -> Float[np.ndarray, "observations units"]:
    """Columns of mean zero and length one, so that their products are correlations."""
    centred: np.ndarray = values - values.mean(axis=0, dtype=np.float64)
    length = np.linalg.norm(centred, axis=0)
    if not ((length > 0) & (length < np.inf)).all():
        raise HarnessError(
            "affinity pearson_knn: some activity is so large or small that its square is no number.",
            "Bring units to a common scale: transform=standardize",
        )
    centred /= length
    return centred
