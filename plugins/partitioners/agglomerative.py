"""Agglomerative clustering into a given number of groups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

import numpy as np
from annotated_types import Ge, MinLen
from harness_plugins.partitioners._counts import HELP, numbers_of_groups, partitions_of_linked
from jaxtyping import Float, Int

from harness import Affinity, Partition, Partitioner, hookimpl


@dataclass(frozen=True)
class Agglomerative(Partitioner):
    r"""Hierarchical clustering, one partition per number of groups.

    .. math:: d_{ij} = \max(A) - A_{ij}, \qquad d_{ii} = 0

    The two nearest groups are merged until ``k`` groups are left. ``linkage`` defines the distance between two groups:
    the ``average``, the largest (``complete``) or the smallest (``single``) distance between their units.

    Input: affinity [n_units, n_units], non-negative. Output: one partition per ``k``. Units without any affinity are in
    no group (``diagnostics.isolated``). Nothing is random: the order of layers and indices breaks ties.

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
        ks = numbers_of_groups(self.k, len(affinity.units))
        affinity.require_groups(self.name)
        partitions: list[Partition] = partitions_of_linked(
            affinity, affinity.units.canonical, ks, "partitioner agglomerative", self._cluster
        )
        return partitions

    def _cluster(
        self, matrix: Float[np.ndarray, "units units"], ks: Sequence[int]
    ) -> Iterator[Int[np.ndarray, " units"]]:
        from sklearn.cluster import AgglomerativeClustering

        distance = matrix.max() - matrix
        np.fill_diagonal(distance, 0.0)
        for k in ks:
            yield AgglomerativeClustering(k, metric="precomputed", linkage=self.linkage).fit_predict(distance)


@hookimpl
def harness_partitioners() -> list[type[Agglomerative]]:
    return [Agglomerative]
