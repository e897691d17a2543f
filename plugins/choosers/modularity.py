"""More affinity inside groups than chance would put there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from harness.groups import Affinity, Partition
from harness.hookspecs import hookimpl


@dataclass(frozen=True)
class Modularity:
    r"""The partition with the most affinity inside its groups, beyond what the units' degrees alone would put there.

    .. math:: Q = \frac{1}{2w} \sum_{ij} \Bigl(A_{ij} - \frac{d_i d_j}{2w}\Bigr) \delta(g_i, g_j),
              \qquad d_i = \sum_j A_{ij},\quad 2w = \sum_i d_i

    With negative affinities, those count for themselves: :math:`Q = (w^+ Q^+ - w^- Q^-) / (w^+ + w^-)`, where + and -
    are the positive part and the size of the negative one. A unit in no group is a group of its own.

    Input: partitions, affinity [n_units, n_units], of either sign. Output: Q per partition, in [-1, 1]; nothing where
    there is no affinity at all.
    Source: Newman 2004 (weighted networks); Gomez, Jensen & Arenas 2009 (negative weights).
    """

    name: ClassVar[str] = "modularity"

    def __call__(self, partitions: Sequence[Partition], affinity: Affinity) -> list[float | None]:
        order = affinity.units.canonical
        matrix = affinity.matrix[np.ix_(order, order)].astype(np.float64)
        total = np.abs(matrix).sum()
        if not total:
            return [None] * len(partitions)
        excess = _excess(np.maximum(matrix, 0)) - _excess(np.maximum(-matrix, 0))
        return [float(excess[_together(partition.labels[order])].sum() / total) for partition in partitions]


def _excess(matrix: np.ndarray) -> np.ndarray:
    """Affinity beyond what degrees alone would give each pair."""
    degree = matrix.sum(axis=0)
    beyond: np.ndarray = matrix - np.outer(degree, degree) / (degree.sum() or 1.0)
    return beyond


def _together(labels: np.ndarray) -> np.ndarray:
    """Which pairs share a group, every unit with itself."""
    same: np.ndarray = (labels[:, None] == labels) & (labels >= 0)
    return same | np.eye(len(labels), dtype=bool)


@hookimpl
def harness_choosers() -> list[type[Modularity]]:
    return [Modularity]
