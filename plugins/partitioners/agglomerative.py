"""Agglomerative clustering into a given number of groups."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np

from harness import Affinity, HarnessError, Partition, hookimpl


@dataclass(frozen=True)
class Agglomerative:
    r"""Hierarchical clustering, one partition per number of groups.

    .. math:: d_{ij} = \max(A) - A_{ij}, \qquad d_{ii} = 0

    The two nearest groups are merged until ``k`` are left. How far two groups are from each other, by ``linkage``:
    ``average`` the mean, ``complete`` the largest, ``single`` the smallest distance between a unit of one and a unit of
    the other.

    Input: affinity [n_units, n_units], non-negative. Output: one partition per ``k``.
    Every unit is in a group; one without any affinity is as far as can be from all, and joins a group late or never.
    Nothing is random: between equal distances the order of layers and indices decides.

    Errors: ``k`` below 2 or above the number of units; negative affinities; nothing but zeros; a sparse
    affinity of so many units that all pairs are out of reach.
    Source: Lance & Williams 1967; Hastie, Tibshirani & Friedman, section 14.3.12.
    """

    name: ClassVar[str] = "agglomerative"
    k: tuple[int, ...] = field(default=(4, 6, 8, 10, 12), metadata={"help": "numbers of groups, one partition each"})
    linkage: Literal["average", "complete", "single"] = field(
        default="average", metadata={"help": "which distance between units counts between groups"}
    )

    def __post_init__(self) -> None:
        if not self.k or min(self.k) < 2:
            raise HarnessError(f"partitioner.k={list(self.k)}: give at least one number of groups, each 2 or more.")

    def __call__(self, affinity: Affinity) -> list[Partition]:
        from sklearn.cluster import AgglomerativeClustering

        n = len(affinity.units)
        if max(self.k) > n:
            raise HarnessError(
                f"partitioner.k={list(self.k)}: {max(self.k)} groups cannot be made of {n} units.",
                f"Use numbers of groups up to {n}: 'partitioner.k=[{','.join(str(k) for k in self.k if k <= n) or n}]'",
            )
        affinity.require_groups(self.name)
        order = affinity.units.canonical
        matrix = affinity.dense("partitioner agglomerative")
        distance = matrix.max() - matrix[np.ix_(order, order)]
        np.fill_diagonal(distance, 0.0)
        partitions = []
        for k in self.k:
            labels = np.empty(n, dtype=np.int64)
            labels[order] = AgglomerativeClustering(k, metric="precomputed", linkage=self.linkage).fit_predict(distance)
            partitions.append(Partition(k, labels))
        return partitions


@hookimpl
def harness_partitioners() -> list[type[Agglomerative]]:
    return [Agglomerative]
