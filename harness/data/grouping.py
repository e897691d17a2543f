"""How units hang together: affinity, labels, partition, candidate, and how well a partition agrees with labels."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
import scipy  # scipy.sparse is loaded where it is first named: listing must stay fast
from jaxtyping import Float, Int

from harness.data.units import UnitSpace
from harness.util.errors import HarnessError

UNCLASSIFIED = "unclassified"
"""The class of a unit that fits no other class."""
Sign = Literal["abs", "positive", "signed"]
"""What of a signed affinity counts: |a|, max(a, 0), or a as it is."""


PAIRS_UP_TO = 8192
"""Units up to which a sparse affinity is written out as a matrix of all pairs (512 MiB)."""


@dataclass(frozen=True)
class Affinity:
    """How alike two units behave: a symmetric matrix [units, units] with zero diagonal, in the method's own unit.

    ``matrix`` is an array, or a ``scipy.sparse.csr_array`` (its entries are put in order): what is not stored is zero.
    Methods that cluster links work on ``links``, those that need all pairs ask for ``dense``: each gets what it wants
    of either kind. ``diagnostics`` carries what a reader must know before trusting it (near-separable fits, ...).

    Errors: another kind of matrix, wrong size, NaN or infinity, asymmetry, a non-zero diagonal.
    """

    matrix: Float[np.ndarray, "units units"] | scipy.sparse.csr_array
    units: UnitSpace
    diagnostics: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = len(self.units)
        if not isinstance(self.matrix, (np.ndarray, scipy.sparse.csr_array)):
            raise HarnessError(
                f"affinity is a {type(self.matrix).__name__}, not an array.",
                "Return a numpy array, or scipy.sparse.csr_array(matrix).",
            )
        if self.matrix.shape != (n, n):
            raise HarnessError(f"affinity of shape {self.matrix.shape} does not fit {n} units.")
        if not isinstance(self.matrix, np.ndarray):
            self.matrix.sum_duplicates()
        if not np.isfinite(abs(self.matrix).max()):
            raise HarnessError("affinity holds NaN or infinite entries.")
        if (abs(self.matrix - self.matrix.T) - 1e-6 * abs(self.matrix)).max() > 1e-9:
            raise HarnessError("affinity is not symmetric.", "Return (A + A.T) / 2, or fix the estimate.")
        if self.matrix.diagonal().any():
            raise HarnessError("affinity has a non-zero diagonal.", "A unit is not its own neighbour: set it to zero.")

    @cached_property
    def links(self) -> scipy.sparse.csr_array:
        """The affinity as links [units, units], in the order of layers and indices: row r is ``units.canonical[r]``.

        Exactly symmetric, in float64, without stored zeros. Worked out on it, nothing depends on the order of units.
        """
        order = self.units.canonical
        half = scipy.sparse.csr_array(self.matrix, dtype=np.float64)[np.ix_(order, order)] / 2
        half.sort_indices()
        return half + half.T  # a link stored on one side only would leave a degree of zero

    def dense(self, who: str = "this method") -> Float[np.ndarray, "units units"]:
        """All pairs [units, units], for methods that need every one. Errors: too many pairs to write out."""
        if isinstance(self.matrix, np.ndarray):
            return self.matrix
        require_pairs(who, len(self.units))
        pairs: Float[np.ndarray, "units units"] = self.matrix.toarray()
        return pairs

    def reordered(self, order: Int[np.ndarray, " units"], units: UnitSpace) -> Affinity:
        """The same affinity with its units in this order, which is that of ``units``."""
        return Affinity(self.matrix[np.ix_(order, order)], units)

    def arrays(self) -> dict[str, np.ndarray]:
        """The matrix as arrays to be kept in a file: ``affinity``, or the ``indptr, indices, data`` of a sparse one."""
        if isinstance(self.matrix, np.ndarray):
            return {"affinity": np.ascontiguousarray(self.matrix)}
        return {name: getattr(self.matrix, name) for name in ("indptr", "indices", "data")}

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray], units: UnitSpace, diagnostics: Mapping[str, object]) -> Affinity:
        """The affinity that :meth:`arrays` were made of."""
        if "affinity" in arrays:
            return cls(arrays["affinity"], units, diagnostics)
        stored = tuple(arrays[name] for name in ("data", "indices", "indptr"))
        return cls(scipy.sparse.csr_array(stored, shape=(len(units), len(units))), units, diagnostics)

    def require_groups(self, who: str, signed: bool = False) -> None:
        """For partitioners. Errors: nothing but zeros; negative entries, unless ``signed`` ones are understood."""
        lowest, highest = self.matrix.min(), self.matrix.max()
        if not signed and lowest < 0:
            raise HarnessError(
                f"partitioner {who} needs non-negative affinities.",
                "Choose what of a signed affinity counts: affinity.transform=abs or affinity.transform=positive",
            )
        if lowest == highest == 0:
            raise HarnessError(
                f"partitioner {who}: no two units have any affinity, so there is nothing to cluster.",
                "Units that never change have none: see what the binarizer says, or use more examples.",
            )


def require_pairs(who: str, n: int) -> None:
    """Errors: so many units that a matrix of all pairs is out of reach."""
    if n > PAIRS_UP_TO:
        raise HarnessError(
            f"{who} needs all pairs of units: {n} x {n} x 8 bytes = {n * n * 8 / 2**30:.1f} GiB; "
            f"up to {PAIRS_UP_TO} units are taken.",
            "Use methods that work on links: affinity=pearson_knn; partitioner=eigengap or partitioner=leiden; "
            "chooser=modularity",
        )


def signed_part(matrix: Float[np.ndarray, "units units"], sign: Sign) -> Float[np.ndarray, "units units"]:
    """What of a signed matrix counts as affinity."""
    if sign == "signed":
        return matrix
    part: Float[np.ndarray, "units units"] = np.abs(matrix) if sign == "abs" else np.maximum(matrix, 0.0)
    return part


@dataclass(frozen=True)
class Labels:
    """What is known about units without clustering them: a class each, and the evidence.

    ``classes[i]`` is None for a unit about which nothing is known (it takes no part in agreement);
    ``"unclassified"`` is a class of its own, as in the closure paper.
    """

    classes: tuple[str | None, ...]
    units: UnitSpace
    selectivity: Mapping[str, Float[np.ndarray, " units"]] = field(default_factory=dict)

    @cached_property
    def known(self) -> Int[np.ndarray, " known"]:
        """Positions of the units that have a class."""
        return np.array([i for i, label in enumerate(self.classes) if label is not None], dtype=int)


@dataclass(frozen=True)
class Stability:
    """Mean adjusted Rand index between a partition and the ones found again.

    ``seeds``: from the same affinity, with units in other orders and other seeds; ``resamples``: from bootstrap
    resamples of the observations as well. None where nothing could be found again.
    """

    seeds: float | None
    resamples: float | None


@dataclass(frozen=True)
class Partition:
    """One label per unit [units]; -1: in no group.

    ``k`` is the number of groups that was asked for (``labels`` may hold fewer), or found where the partitioner
    decides; ``setting`` says what else told this partition from its neighbours (``resolution = 0.5``).
    """

    k: int
    labels: Int[np.ndarray, " units"]
    setting: str = ""
    diagnostics: Mapping[str, object] = field(default_factory=dict)
    stability: Stability | None = None

    def groups(self) -> list[tuple[int, ...]]:
        """Members of each group, by ascending label."""
        order = np.argsort(self.labels, kind="stable")
        order = order[self.labels[order] >= 0]
        groups = np.split(order, np.flatnonzero(np.diff(self.labels[order])) + 1)
        return [tuple(group.tolist()) for group in groups if len(group)]

    @property
    def trivial(self) -> bool:
        """Whether it says nothing: no group at all, one group of all units, or every unit by itself."""
        sizes = np.unique(self.labels[self.labels >= 0], return_counts=True)[1]
        return not len(sizes) or len(self.labels) in (sizes[0], len(sizes))

    @property
    def name(self) -> str:
        """``k = 10``, or what else was asked for."""
        return self.setting or f"k = {self.k}"


@dataclass(frozen=True)
class Agreement:
    """A partition held against labels, over the units that have one.

    ``ari``: adjusted Rand index; ``nmi``: normalised mutual information (arithmetic mean);
    ``purity``: share of units whose class is the most common one of their group.
    """

    ari: float
    nmi: float
    purity: float

    @classmethod
    def of(cls, partition: Partition, labels: Labels) -> Agreement | None:
        """None where no unit has a label: then there is nothing to agree with."""
        from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
        from sklearn.metrics.cluster import contingency_matrix

        known = labels.known
        if not len(known):
            return None
        truth = [labels.classes[i] for i in known]
        guess = partition.labels[known]
        table = contingency_matrix(truth, guess)
        return cls(
            float(adjusted_rand_score(truth, guess)),
            float(normalized_mutual_info_score(truth, guess)),
            float(table.max(axis=0).sum() / table.sum()),
        )


@dataclass(frozen=True)
class Candidate:
    """A group that is put to the closure test, and why it was chosen.

    ``score``: the selector's; ``purity``: share of its labelled units in their most common class; ``isolation``: mean
    |affinity| inside over mean |affinity| to the outside; ``stability``: mean best Jaccard overlap with the groups
    found again on resamples. None where not defined (no labels; no affinity in use; no reruns).
    """

    members: tuple[int, ...]
    score: float | None = None
    purity: float | None = None
    isolation: float | None = None
    stability: float | None = None


def isolation(
    members: Sequence[int], matrix: Float[np.ndarray, "units units"] | scipy.sparse.csr_array
) -> float | None:
    """Mean |affinity| over pairs inside the group / mean |affinity| between members and all others.

    None where undefined: fewer than two members, no others, or nothing but zeros outside.
    """
    n, others = len(members), matrix.shape[0] - len(members)
    if n < 2 or not others:
        return None
    links = scipy.sparse.csr_array(matrix[list(members)])
    inside = np.isin(links.indices, members)
    strength = np.abs(links.data)
    within, across = strength[inside].sum() / (n * (n - 1)), strength[~inside].sum() / (n * others)
    return float(within / across) if across > 0 else None


def purity(members: Sequence[int], labels: Labels) -> float | None:
    """Share of the group's labelled units that are of its most common class; None where none is labelled."""
    classes = [labels.classes[i] for i in members if labels.classes[i] is not None]
    return max(classes.count(c) for c in set(classes)) / len(classes) if classes else None


def jaccard(a: Collection[int], b: Collection[int]) -> float:
    """Units in both groups, as a share of the units in either: 1 if they are the same, 0 if they share none."""
    both, either = set(a) & set(b), set(a) | set(b)
    if not either:
        raise HarnessError("two groups without units cannot be compared.", "Give at least one unit.")
    return len(both) / len(either)


def best_overlap(group: Collection[int], groups: Iterable[Collection[int]]) -> float:
    """Jaccard overlap with the group most like this one; 0 where there are no groups."""
    return max((jaccard(group, other) for other in groups), default=0.0)
