"""Agglomerative clustering into a given number of groups."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

import numpy as np
from annotated_types import Ge, MinLen
from harness_plugins.partitioners._counts import HELP, numbers_of_groups

from harness import Affinity, Partition, Partitioner, hookimpl


@dataclass(frozen=True)
class Agglomerative(Partitioner):
    r"""Hierarchical clustering, one partition per number of groups.

    .. math:: d_{ij} = \max(A) - A_{ij}, \qquad d_{ii} = 0

    The two nearest groups are merged until ``k`` groups are left. ``linkage`` defines the distance between two groups:
    the ``average``, the largest (``complete``) or the smallest (``single``) distance between their units.

    Input: affinity [n_units, n_units], non-negative. Output: one partition per ``k``. Every unit is in a group. A unit
    without any affinity has the largest distance to all others, so it joins a group late or never. Nothing is random:
    the order of layers and indices breaks ties.

    Errors: ``k`` above the number of units; negative affinities; only zeros; a sparse affinity with too many units for
    a matrix of all pairs.
    Source: Lance & Williams 1967; Hastie, Tibshirani & Friedman, section 14.3.12.
    """

    name: ClassVar[str] = "agglomerative"
    k: Annotated[tuple[Annotated[int, Ge(2)], ...], MinLen(1)] | None = field(default=None, metadata={"help": HELP})
    linkage: Literal["average", "complete", "single"] = field(
        default="average", metadata={"help": "how the distance between two groups is measured"}
    )

    def __call__(self, affinity: Affinity) -> list[Partition]:
        from sklearn.cluster import AgglomerativeClustering

        n = len(affinity.units)
        ks = numbers_of_groups(self.k, n)
        affinity.require_groups(self.name)
        order = affinity.units.canonical
        matrix = affinity.dense("partitioner agglomerative")
        distance = matrix.max() - matrix[np.ix_(order, order)]
        np.fill_diagonal(distance, 0.0)
        partitions = []
        for k in ks:
            labels = np.empty(n, dtype=np.int64)
            labels[order] = AgglomerativeClustering(k, metric="precomputed", linkage=self.linkage).fit_predict(distance)
            partitions.append(Partition(k, labels))
        return partitions


@hookimpl
def harness_partitioners() -> list[type[Agglomerative]]:
    return [Agglomerative]
