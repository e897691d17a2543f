"""Spectral clustering that chooses the number of groups by the eigengap."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import numpy as np
import scipy  # scipy.linalg loads at first use: `harness list` must stay fast
from annotated_types import Ge, Gt, Le
from jaxtyping import Float, Int

from harness import Affinity, Partition, Partitioner, hookimpl
from harness.data.localised import TOLERANCE, cut
from harness.data.spectrum import WHOLE_UP_TO, components, lowest


@dataclass(frozen=True)
class Eigengap(Partitioner):
    r"""Connected components, each split into spectral clusters; their number is set by the widest eigenvalue gap.

    .. math:: (D - A) u = \lambda D u, \qquad \hat K = \arg\max_K (\lambda_{K+1} - \lambda_K)

    A component of fewer than ``min_component`` units is one group. In a larger component of m units, K satisfies
    :math:`\lambda_K` < ``below``, K <= m / 2 and K <= ``cap``; if gaps are equal, the smaller K is used. k-means
    clusters the rows of the first K eigenvectors, each scaled to length one (best of ten starts; for a component of
    more than 2000 units one start, from K nearly orthogonal rows that pivoted QR selects). Without ``below`` and m / 2,
    the widest gap of a poor affinity is at the top of the spectrum, where nearly every unit is a group of its own.

    Weak links between all units hide groups (k equal blocks: from 1 / (k + 1) of the affinity inside them), so use an
    affinity with few links per unit, such as ``pearson_knn``. ``cap`` is off by default: the paper's value for language
    models, 12, cannot find 40 pairs in one component.

    Input: affinity [n_units, n_units], non-negative. Output: one partition; ``k`` is the number of groups found. Units
    without any link are in no group. The order of the input units has no effect. Diagnostics: ``components`` (of two
    units or more), ``isolated`` units by name, ``near_singletons``: the number of groups with at most two units if they
    are more than half of all groups, else 0.

    It works on links, one component at a time, so a sparse affinity of 50,000 units is feasible.

    Errors: negative affinities; only zeros; a component of more than 2000 units with more than 2048 eigenvalues lower
    than ``below``, which has no clear groups.
    Source: Seshadri et al., cross-layer clustering for SPD, algorithm 1, and section 6 for components and the cap;
    von Luxburg 2007, section 8.3 (eigengap); Ng, Jordan & Weiss 2001 (rows of length one);
    Damle, Minden & Ying 2019 (pivoted QR).
    """

    name: ClassVar[str] = "eigengap"
    min_component: Annotated[int, Ge(1)] = field(
        default=5, metadata={"help": "smallest component that is split, in units"}
    )
    below: Annotated[float, Gt(0), Le(2)] = field(
        default=0.7, metadata={"help": "only eigenvalues below this count as groups; they lie between 0 and 2"}
    )
    cap: Annotated[int, Ge(1)] | None = field(
        default=None, metadata={"help": "largest number of groups in one component; null: half its units"}
    )
    seed: int = field(default=0, metadata={"help": "seed of k-means"})

    def __call__(self, affinity: Affinity) -> list[Partition]:
        affinity.require_groups(self.name)
        units = affinity.units
        order = units.canonical
        labels = np.full(len(units), -1, dtype=np.int64)
        k = n_components = 0
        for members, links in components(affinity.links):
            if len(members) > 1:
                groups = self._split(links)
                labels[order[members]] = groups + k
                k += groups.max() + 1
                n_components += 1
        small = int((np.bincount(labels[labels >= 0]) <= 2).sum())
        isolated = units.names(order[labels[order] < 0])
        diagnostics = {
            "components": n_components,
            "isolated": isolated,
            "near_singletons": small if 2 * small > k else 0,
        }
        return [Partition(int(k), labels, diagnostics=diagnostics)]

    def _split(self, links: scipy.sparse.csr_array) -> Int[np.ndarray, " m"]:
        """Groups of one component [m, m], numbered from 0."""
        m = links.shape[0]
        most = min(m // 2, self.cap or m)
        one_group = np.zeros(m, dtype=np.int64)
        if m < self.min_component or most < 2:
            return one_group
        # The symmetric form has the eigenvectors of the generalised form times sqrt(D). Scaling rows to length one
        # removes the difference.
        spectrum = lowest(links, most + 1, self.below)
        values = spectrum.values
        gaps = np.diff(values).round(10)  # so that rounding errors do not choose between equal gaps
        k = int(np.argmax(np.where(values[:-1] < self.below, gaps, -1.0))) + 1
        if k == 1:
            return one_group
        groups = self._k_means(spectrum.rows(k), k)
        return np.unique(groups, return_inverse=True)[1].astype(np.int64)

    def _k_means(self, rows: Float[np.ndarray, "m columns"] | scipy.sparse.csr_array, k: int) -> Int[np.ndarray, " m"]:
        """Many rows get one start, k nearly orthogonal rows: random starts miss some groups if k is large."""
        from sklearn.cluster import KMeans

        if scipy.sparse.issparse(rows):
            lengths = scipy.sparse.linalg.norm(rows, axis=1)
            rows = cut(scipy.sparse.diags_array(1 / lengths).astype(rows.dtype) @ rows, TOLERANCE)
            candidates = rows[rows.argmax(axis=0)].toarray()  # the unit that is nearest to each vector of the basis
        else:
            candidates = rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        if rows.shape[0] <= WHOLE_UP_TO:
            k_means = KMeans(k, n_init=10, random_state=self.seed)
        else:
            pivots = scipy.linalg.qr(candidates.T, mode="r", pivoting=True, check_finite=False)[1]
            k_means = KMeans(k, init=candidates[pivots[:k]], n_init=1, random_state=self.seed)
        groups: Int[np.ndarray, " m"] = k_means.fit_predict(rows)
        return groups


@hookimpl
def harness_partitioners() -> list[type[Eigengap]]:
    return [Eigengap]
