"""More affinity inside groups than expected by chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import scipy  # scipy.sparse loads at first use: `harness list` must stay fast
from jaxtyping import Int

from harness import Affinity, Chooser, Partition, hookimpl


@dataclass(frozen=True)
class Modularity(Chooser):
    r"""The partition with the most affinity inside its groups, beyond what the degrees of the units predict.

    .. math:: Q = \frac{1}{2w} \sum_{ij} \Bigl(A_{ij} - \frac{d_i d_j}{2w}\Bigr) \delta(g_i, g_j),
              \qquad d_i = \sum_j A_{ij},\quad 2w = \sum_i d_i

    With negative affinities, :math:`Q = (w^+ Q^+ - w^- Q^-) / (w^+ + w^-)`, where + is the positive part of A and - the
    absolute value of its negative part. A unit in no group counts as a group of its own.

    Input: partitions, affinity [n_units, n_units], of any sign. Output: Q per partition, in [-1, 1]; None if all
    affinities are zero.
    Source: Newman 2004 (weighted networks); Gomez, Jensen & Arenas 2009 (negative weights).
    """

    name: ClassVar[str] = "modularity"

    def __call__(self, partitions: Sequence[Partition], affinity: Affinity) -> list[float | None]:
        links = affinity.links
        total = abs(links).sum()
        if not total:
            return [None] * len(partitions)
        order = affinity.units.canonical
        positive, negative = links.maximum(0), (-links).maximum(0)
        return [
            float((_excess(positive, groups) - _excess(negative, groups)) / total)
            for groups in (_groups(partition.labels[order]) for partition in partitions)
        ]


def _groups(labels: Int[np.ndarray, " units"]) -> Int[np.ndarray, " units"]:
    """Labels from 0; every unit in no group becomes a group of its own."""
    singletons = labels.max() + 1 + np.arange(len(labels))
    groups: Int[np.ndarray, " units"] = np.unique(np.where(labels < 0, singletons, labels), return_inverse=True)[1]
    return groups


def _excess(links: scipy.sparse.csr_array, groups: Int[np.ndarray, " units"]) -> float:
    """Affinity inside groups, minus what the degrees predict."""
    pairs = links.tocoo()
    inside = pairs.data[groups[pairs.row] == groups[pairs.col]].sum()
    degrees = np.bincount(groups, links.sum(axis=1))
    return float(inside - (degrees**2).sum() / (degrees.sum() or 1.0))


@hookimpl
def harness_choosers() -> list[type[Modularity]]:
    return [Modularity]
