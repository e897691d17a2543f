"""Spectral clustering into a given number of groups."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from harness import Affinity, HarnessError, Partition, Partitioner, hookimpl


@dataclass(frozen=True)
class Spectral(Partitioner):
    r"""Normalised spectral clustering, one partition per number of groups.

    Eigenvectors of :math:`I - D^{-1/2} (A + \epsilon) D^{-1/2}` for its ``k`` smallest eigenvalues, then k-means on
    their rows, the best of ``n_init`` starts. :math:`\epsilon` = ``offset`` joins units that have no neighbour at all.

    Input: affinity [n_units, n_units], non-negative. Output: one partition per ``k``.

    Errors: ``k`` below 2 or above the number of units; negative affinities or offset; no start;
    a sparse affinity of so many units that all pairs are out of reach.
    Source: Ng, Jordan & Weiss 2001; von Luxburg 2007; closure paper, section 3.6 (k-means labels, random state 0).
    """

    name: ClassVar[str] = "spectral"
    k: tuple[int, ...] = field(default=(4, 6, 8, 10, 12), metadata={"help": "numbers of groups, one partition each"})
    n_init: int = field(default=10, metadata={"help": "k-means starts; the paper's selection scripts used 1"})
    offset: float = field(default=1e-12, metadata={"help": "added to every affinity"})
    seed: int = field(default=0, metadata={"help": "of k-means"})

    def __post_init__(self) -> None:
        if not self.k or min(self.k) < 2:
            raise HarnessError(f"partitioner.k={list(self.k)}: give at least one number of groups, each 2 or more.")
        if self.n_init < 1 or self.offset < 0:
            raise HarnessError(
                f"partitioner.n_init={self.n_init}, partitioner.offset={self.offset}: at least one start, and no "
                "negative offset."
            )

    def __call__(self, affinity: Affinity) -> list[Partition]:
        from sklearn.cluster import k_means

        n = len(affinity.units)
        if max(self.k) > n:
            raise HarnessError(
                f"partitioner.k={list(self.k)}: {max(self.k)} groups cannot be made of {n} units.",
                f"Use numbers of groups up to {n}: 'partitioner.k=[{','.join(str(k) for k in self.k if k <= n) or n}]'",
            )
        affinity.require_groups(self.name)
        embedding = _embedding(affinity.dense("partitioner spectral") + self.offset, max(self.k))
        partitions = []
        for k in self.k:
            rng = np.random.RandomState(self.seed)
            rng.uniform(
                -1, 1, n
            )  # scikit-learn's SpectralClustering draws ARPACK's start first: its k-means begins here
            labels = k_means(embedding[:, :k], k, n_init=self.n_init, random_state=rng)[1]
            partitions.append(Partition(k, labels.astype(np.int64)))
        return partitions


def _embedding(matrix: Float[np.ndarray, "units units"], most: int) -> Float[np.ndarray, "units most"]:
    """Eigenvectors over the root of each unit's degree, lowest eigenvalue first, their largest entries positive.

    By LAPACK: ARPACK, which scikit-learn asks, draws its restarts from the operating system, so that two processes can
    disagree where eigenvalues are close.
    """
    from scipy.linalg import eigh
    from scipy.sparse.csgraph import laplacian

    normed, root = laplacian(matrix, normed=True, return_diag=True)
    vectors = eigh(normed, subset_by_index=(0, most - 1))[1] / root[:, None]
    largest = np.abs(vectors).argmax(axis=0)
    found: Float[np.ndarray, "units most"] = vectors * np.sign(vectors[largest, np.arange(most)])
    return found


@hookimpl
def harness_partitioners() -> list[type[Spectral]]:
    return [Spectral]
