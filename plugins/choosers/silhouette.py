"""Units that are nearer to their own group than to the next one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from harness import Affinity, Chooser, Partition, hookimpl


@dataclass(frozen=True)
class Silhouette(Chooser):
    r"""The partition whose units are, on average, near to their own group and far from the next one.

    .. math:: s_i = \frac{b_i - a_i}{\max(a_i, b_i)}, \qquad D_{ij} = \max(A) - A_{ij}

    :math:`a_i` is the mean distance D to the other units of its group, :math:`b_i` the smallest mean distance to
    another group. s is 0 for the only unit of a group. Units in no group are left out.

    Input: partitions, affinity [n_units, n_units], of any sign. Output: the mean of s per partition, in [-1, 1]; None
    if there are fewer than two groups, or if every group has one unit.

    Errors: a sparse affinity with too many units for a matrix of all pairs.
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

    grouped = order[labels[order] >= 0]
    if not 2 <= len(np.unique(labels[grouped])) < len(grouped):
        return None
    return float(silhouette_score(distance[np.ix_(grouped, grouped)], labels[grouped], metric="precomputed"))


@hookimpl
def harness_choosers() -> list[type[Silhouette]]:
    return [Silhouette]
