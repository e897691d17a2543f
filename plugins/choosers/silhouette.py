"""Units nearer to their own group than to the next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from harness import Affinity, Partition, hookimpl


@dataclass(frozen=True)
class Silhouette:
    r"""The partition whose units are, on average, nearest to their own group and farthest from the next.

    .. math:: s_i = \frac{b_i - a_i}{\max(a_i, b_i)}, \qquad D_{ij} = \max(A) - A_{ij}

    with :math:`a_i` the mean distance D to the others of its group, :math:`b_i` the least mean distance to another
    group; 0 for a unit alone in its group. Units in no group are left out.

    Input: partitions, affinity [n_units, n_units], of either sign. Output: the mean of s per partition, in [-1, 1];
    nothing where there are fewer than two groups, or as many as units in them.

    Errors: a sparse affinity of so many units that all pairs are out of reach.
    Source: Rousseeuw 1987; scikit-learn's ``silhouette_score``.
    """

    name: ClassVar[str] = "silhouette"

    def __call__(self, partitions: Sequence[Partition], affinity: Affinity) -> list[float | None]:
        matrix = affinity.dense("chooser silhouette")
        distance = matrix.max() - matrix
        np.fill_diagonal(distance, 0.0)
        return [_silhouette(distance, partition.labels, affinity.units.canonical) for partition in partitions]


def _silhouette(distance: np.ndarray, labels: np.ndarray, order: np.ndarray) -> float | None:
    from sklearn.metrics import silhouette_score

    inside = order[labels[order] >= 0]
    if not 2 <= len(np.unique(labels[inside])) < len(inside):
        return None
    return float(silhouette_score(distance[np.ix_(inside, inside)], labels[inside], metric="precomputed"))


@hookimpl
def harness_choosers() -> list[type[Silhouette]]:
    return [Silhouette]
