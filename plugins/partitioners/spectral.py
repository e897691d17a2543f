"""Spectral clustering into a given number of groups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Ge, MinLen
from harness_plugins.partitioners._counts import HELP, numbers_of_groups, partitions_of_linked
from jaxtyping import Float, Int

from harness import Affinity, Partition, Partitioner, hookimpl


@dataclass(frozen=True)
class Spectral(Partitioner):
    r"""Normalised spectral clustering, one partition per number of groups.

    The eigenvectors of :math:`I - D^{-1/2} (A + \epsilon) D^{-1/2}` for its ``k`` smallest eigenvalues are computed;
    k-means clusters their rows and keeps the best of ``n_init`` starts. :math:`\epsilon` = ``offset`` connects
    components weakly.

    Input: affinity [n_units, n_units], non-negative. Output: one partition per ``k``. Units without any affinity are in
    no group (``diagnostics.isolated``).

    Errors: ``k`` above the number of units; negative affinities; only zeros; a sparse affinity with too many units for
    a matrix of all pairs.
    Source: Ng, Jordan & Weiss 2001; von Luxburg 2007; closure paper, section 3.6 (k-means labels, random state 0).
    """

    name: ClassVar[str] = "spectral"
    k: Annotated[tuple[Annotated[int, Ge(2)], ...], MinLen(1)] | None = field(default=None, metadata={"help": HELP})
    n_init: Annotated[int, Ge(1)] = field(
        default=10, metadata={"help": "k-means starts; the paper's selection scripts used 1"}
    )
    offset: Annotated[float, Ge(0)] = field(default=1e-12, metadata={"help": "added to every affinity"})
    seed: int = field(default=0, metadata={"help": "seed of k-means"})

    def __call__(self, affinity: Affinity) -> list[Partition]:
        n = len(affinity.units)
        ks = numbers_of_groups(self.k, n)
        affinity.require_groups(self.name)
        partitions: list[Partition] = partitions_of_linked(
            affinity, np.arange(n), ks, "partitioner spectral", self._cluster
        )
        return partitions

    def _cluster(
        self, matrix: Float[np.ndarray, "units units"], ks: Sequence[int]
    ) -> Iterator[Int[np.ndarray, " units"]]:
        from sklearn.cluster import k_means

        embedding = _embedding(matrix + self.offset, max(ks))
        for k in ks:
            rng = np.random.RandomState(self.seed)
            # scikit-learn's SpectralClustering draws ARPACK's start vector first; its k-means starts after that draw.
            rng.uniform(-1, 1, len(matrix))
            yield k_means(embedding[:, :k], k, n_init=self.n_init, random_state=rng)[1].astype(np.int64)


def _embedding(matrix: Float[np.ndarray, "units units"], most: int) -> Float[np.ndarray, "units most"]:
    """Eigenvectors divided by the root of each unit's degree, lowest eigenvalue first, their largest entries positive.

    LAPACK computes them. scikit-learn uses ARPACK, which takes its restart vectors from the operating system, so two
    processes can disagree where eigenvalues are close.
    """
    from scipy.linalg import eigh
    from scipy.sparse.csgraph import laplacian

    normed, root = laplacian(matrix, normed=True, return_diag=True)
    vectors = eigh(normed, subset_by_index=(0, most - 1))[1] / root[:, None]
    largest = np.abs(vectors).argmax(axis=0)
    embedding: Float[np.ndarray, "units most"] = vectors * np.sign(vectors[largest, np.arange(most)])
    return embedding


@hookimpl
def harness_partitioners() -> list[type[Spectral]]:
    return [Spectral]
