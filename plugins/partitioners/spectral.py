"""Spectral clustering into a given number of groups."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from harness.errors import HarnessError
from harness.groups import Affinity, Partition
from harness.hookspecs import hookimpl


@dataclass(frozen=True)
class Spectral:
    r"""Normalised spectral clustering, one partition per number of groups.

    Eigenvectors of :math:`I - D^{-1/2} (A + \epsilon) D^{-1/2}` for its ``k`` smallest eigenvalues, then k-means on
    their rows, the best of ``n_init`` starts. :math:`\epsilon` = ``offset`` joins units that have no neighbour at all.

    Input: affinity [n_units, n_units], non-negative. Output: one partition per ``k``. Where ARPACK fails and another
    eigensolver takes over, ``diagnostics.eigensolver`` says so.

    Errors: ``k`` below 2 or above the number of units; negative affinities or offset; no start;
    a sparse affinity of so many units that all pairs are out of reach.
    Source: Ng, Jordan & Weiss 2001; von Luxburg 2007; closure paper, section 3.6 (k-means labels, random state 0).
    """

    name: ClassVar[str] = "spectral"
    k: tuple[int, ...] = field(default=(4, 6, 8, 10, 12), metadata={"help": "numbers of groups, one partition each"})
    n_init: int = field(default=10, metadata={"help": "k-means starts; the paper's selection scripts used 1"})
    offset: float = field(default=1e-12, metadata={"help": "added to every affinity"})
    seed: int = field(default=0, metadata={"help": "of k-means and of the eigensolver's start"})

    def __post_init__(self) -> None:
        if not self.k or min(self.k) < 2:
            raise HarnessError(f"partitioner.k={list(self.k)}: give at least one number of groups, each 2 or more.")
        if self.n_init < 1 or self.offset < 0:
            raise HarnessError(
                f"partitioner.n_init={self.n_init}, partitioner.offset={self.offset}: at least one start, and no "
                "negative offset."
            )

    def __call__(self, affinity: Affinity) -> list[Partition]:
        from sklearn.cluster import SpectralClustering

        n = len(affinity.units)
        if max(self.k) > n:
            raise HarnessError(
                f"partitioner.k={list(self.k)}: {max(self.k)} groups cannot be made of {n} units.",
                f"Use numbers of groups up to {n}: 'partitioner.k=[{','.join(str(k) for k in self.k if k <= n) or n}]'",
            )
        affinity.require_groups(self.name)
        matrix = affinity.dense("partitioner spectral") + self.offset
        partitions = []
        for k in self.k:
            clustering = SpectralClustering(
                n_clusters=k, affinity="precomputed", assign_labels="kmeans", n_init=self.n_init, random_state=self.seed
            )
            with warnings.catch_warnings(record=True) as warned:
                warnings.simplefilter("always")
                labels = clustering.fit_predict(matrix)
            fell_back = any("LOBPCG" in str(warning.message) for warning in warned)
            notes = {"eigensolver": "ARPACK failed on this affinity, LOBPCG took over"} if fell_back else {}
            partitions.append(Partition(k, labels.astype(np.int64), diagnostics=notes))
        return partitions


@hookimpl
def harness_partitioners() -> list[type[Spectral]]:
    return [Spectral]
