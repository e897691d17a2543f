"""Spectral clustering that finds the number of groups itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import scipy  # scipy.linalg is loaded where it is first named: listing must stay fast
from jaxtyping import Float, Int

from harness import Affinity, HarnessError, Partition, hookimpl
from harness.data.spectrum import WHOLE_UP_TO, components, lowest


@dataclass(frozen=True)
class Eigengap:
    r"""Connected components, and spectral clusters inside them as many as the widest gap between eigenvalues says.

    .. math:: (D - A) u = \lambda D u, \qquad \hat K = \arg\max_K (\lambda_{K+1} - \lambda_K)

    A component of fewer than ``min_component`` units is one group, as a pair is. In a larger one, of m units, K is
    sought where :math:`\lambda_K` < ``below``, K <= m / 2 and K <= ``cap`` (of equal gaps the smaller K), and k-means
    splits the first K eigenvectors, each unit's row scaled to length one (ten starts; of a component of more than 2000
    units one, from K rows that pivoted QR finds as orthogonal as can be). Without ``below`` and m / 2 the
    widest gap of a poor affinity sits at the top of the spectrum, where nearly every unit is a group of its own.
    A background of faint links hides groups (k equal blocks, from 1 / (k + 1) of the affinity within them): an affinity
    with few links per unit, such as ``pearson_knn``, is what this is for.
    ``cap`` is off by default: 12, the paper's for language models, cannot find 40 pairs in one component.

    Input: affinity [n_units, n_units], non-negative. Output: one partition, ``k`` the number of groups found.
    Units without any link are in no group. Worked out in the order of layers and indices, so that ``seed`` alone
    decides. Diagnostics: ``components`` (of two units or more), ``isolated`` units by name, ``near_singletons``: the
    number of groups of at most two units where they are more than half of all, else 0.

    Works on links, each component by itself: 50,000 units of a sparse affinity are no difficulty.

    Errors: negative affinities, nothing but zeros, parameters without meaning; a component of more than 2000 units with
    more than 2048 eigenvalues lower than ``below``, which has no clear groups.
    Source: Seshadri et al., cross-layer clustering for SPD, algorithm 1, and section 6 for components and the cap;
    von Luxburg 2007, section 8.3 (eigengap); Ng, Jordan & Weiss 2001 (rows of length one);
    Damle, Minden & Ying 2019 (pivoted QR).
    """

    name: ClassVar[str] = "eigengap"
    min_component: int = field(default=5, metadata={"help": "components of fewer units are not split"})
    below: float = field(default=0.7, metadata={"help": "eigenvalues from here on belong to no group; at most 2"})
    cap: int | None = field(default=None, metadata={"help": "most groups in one component; none: half its units"})
    seed: int = field(default=0, metadata={"help": "of k-means"})

    def __post_init__(self) -> None:
        if self.min_component < 1:
            raise HarnessError(f"partitioner.min_component={self.min_component}: a component has 1 unit or more.")
        if not 0 < self.below <= 2:
            raise HarnessError(f"partitioner.below={self.below}: eigenvalues are between 0 and 2.", "Use 0.5 to 0.7.")
        if self.cap is not None and self.cap < 1:
            raise HarnessError(f"partitioner.cap={self.cap}: at least one group, or null for no cap.")

    def __call__(self, affinity: Affinity) -> list[Partition]:
        affinity.require_groups(self.name)
        units = affinity.units
        order = units.canonical
        labels = np.full(len(units), -1, dtype=np.int64)
        k = parts = 0
        for members, links in components(affinity.links):
            if len(members) > 1:
                found = self._split(links)
                labels[order[members]] = found + k
                k += found.max() + 1
                parts += 1
        small = int((np.bincount(labels[labels >= 0]) <= 2).sum())
        isolated = units.names(order[labels[order] < 0])
        near_singletons = small if 2 * small > k else 0
        told = {"components": parts, "isolated": isolated, "near_singletons": near_singletons}
        return [Partition(int(k), labels, diagnostics=told)]

    def _split(self, links: scipy.sparse.csr_array) -> Int[np.ndarray, " m"]:
        """Groups of one component [m, m], numbered from 0."""
        m = links.shape[0]
        most = min(m // 2, self.cap or m)
        one = np.zeros(m, dtype=np.int64)
        if m < self.min_component or most < 2:
            return one
        # Eigenvectors of the symmetric form are those of the generalised one times sqrt(D): once rows have length one,
        # there is no difference.
        values, vectors = lowest(links, most + 1, self.below)
        gaps = np.diff(values).round(10)  # or rounding would choose between equal gaps
        k = int(np.argmax(np.where(values[:-1] < self.below, gaps, -1.0))) + 1
        if k == 1:
            return one
        rows = vectors[:, :k] / np.linalg.norm(vectors[:, :k], axis=1, keepdims=True)
        found: Int[np.ndarray, " m"] = np.unique(self._k_means(rows), return_inverse=True)[1].astype(np.int64)
        return found

    def _k_means(self, rows: Float[np.ndarray, "m k"]) -> Int[np.ndarray, " m"]:
        """Of many rows from one start, k of them as orthogonal as can be: random starts miss some where k is large."""
        from sklearn.cluster import KMeans

        m, k = rows.shape
        if m <= WHOLE_UP_TO:
            assigned = KMeans(k, n_init=10, random_state=self.seed).fit_predict(rows)
        else:
            pivots = scipy.linalg.qr(rows.T, mode="r", pivoting=True, check_finite=False)[1]
            assigned = KMeans(k, init=rows[pivots[:k]], n_init=1, random_state=self.seed).fit_predict(rows)
        found: Int[np.ndarray, " m"] = assigned
        return found


@hookimpl
def harness_partitioners() -> list[type[Eigengap]]:
    return [Eigengap]
