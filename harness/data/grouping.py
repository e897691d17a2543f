"""Groups of units: affinities, labels, partitions, candidates, and how well two groupings agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import numpy as np
import scipy  # scipy.sparse is loaded where it is first named: listing must stay fast
from jaxtyping import Bool, Float, Int

from harness.data.units import UnitSpace
from harness.util.errors import HarnessError

UNCLASSIFIED = "unclassified"
"""The class of a unit that fits no other class."""
Sign = Literal["abs", "positive", "signed"]
"""Which part of a signed affinity counts: |a|, max(a, 0), or a itself."""
FEWEST = 3
"""Units that agreement needs: with fewer, no two can belong together and a third apart."""
PAIRS_UP_TO = 8192
"""Largest number of units for which a sparse affinity is converted to a dense matrix (512 MiB)."""


@dataclass(frozen=True)
class Affinity:
    """Similarity of units: a symmetric matrix [units, units] with zero diagonal, in the method's own unit.

    ``matrix`` is an array or a ``scipy.sparse.csr_array``, whose missing entries are zero and whose stored entries are
    sorted in place. Methods that cluster links use ``links``, methods that need all pairs use ``dense``; both accept
    either kind of matrix. ``diagnostics``: reasons to doubt the estimate (near-separable fits, ...).

    Errors: another kind of matrix, wrong size, NaN or infinity, asymmetry, a non-zero diagonal.
    """

    matrix: Float[np.ndarray, "units units"] | scipy.sparse.csr_array
    units: UnitSpace
    diagnostics: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = len(self.units)
        if not isinstance(self.matrix, (np.ndarray, scipy.sparse.csr_array)):
            raise HarnessError(
                f"the affinity is a {type(self.matrix).__name__}, not an array.",
                "Return a numpy array, or scipy.sparse.csr_array(matrix).",
            )
        if self.matrix.shape != (n, n):
            raise HarnessError(
                f"an affinity of shape {self.matrix.shape} does not fit {n} units.", f"Return [{n}, {n}]."
            )
        if not isinstance(self.matrix, np.ndarray):
            self.matrix.sum_duplicates()
        if not np.isfinite(abs(self.matrix).max()):
            raise HarnessError("the affinity has NaN or infinite entries.", "Return 0 for pairs without an estimate.")
        if (abs(self.matrix - self.matrix.T) - 1e-6 * abs(self.matrix)).max() > 1e-9:
            raise HarnessError("the affinity is not symmetric.", "Return (A + A.T) / 2, or fix the estimate.")
        if self.matrix.diagonal().any():
            raise HarnessError("the affinity has a non-zero diagonal.", "Use np.fill_diagonal(matrix, 0).")

    @cached_property
    def links(self) -> scipy.sparse.csr_array:
        """The affinity as links [units, units], ordered by layer and index: row r is ``units.canonical[r]``.

        Exactly symmetric, in float64, without stored zeros. Results computed from it do not depend on the order of the
        units.
        """
        order = self.units.canonical
        half = scipy.sparse.csr_array(self.matrix, dtype=np.float64)[np.ix_(order, order)] / 2
        half.sort_indices()
        return half + half.T  # a link stored on one side only would give a degree of zero

    @property
    def isolated(self) -> Bool[np.ndarray, " units"]:
        """Which units have no affinity to any other."""
        alone: Bool[np.ndarray, " units"] = abs(self.matrix).sum(axis=1) == 0
        return alone

    def dense(self, who: str = "this method") -> Float[np.ndarray, "units units"]:
        """All pairs [units, units], for methods that need them. Errors: more than ``PAIRS_UP_TO`` units."""
        if isinstance(self.matrix, np.ndarray):
            return self.matrix
        require_pairs(who, len(self.units))
        pairs: Float[np.ndarray, "units units"] = self.matrix.toarray()
        return pairs

    def reordered(self, order: Int[np.ndarray, " units"], units: UnitSpace) -> Affinity:
        """The same affinity with its units in this order; ``units`` is the unit space in this order."""
        return Affinity(self.matrix[np.ix_(order, order)], units)

    def arrays(self) -> dict[str, np.ndarray]:
        """The matrix as arrays for a file: ``affinity``, or ``indptr, indices, data`` of a sparse matrix."""
        if isinstance(self.matrix, np.ndarray):
            return {"affinity": np.ascontiguousarray(self.matrix)}
        return {name: getattr(self.matrix, name) for name in ("indptr", "indices", "data")}

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray], units: UnitSpace, diagnostics: Mapping[str, object]) -> Affinity:
        """The affinity that :meth:`arrays` describes."""
        if "affinity" in arrays:
            return cls(arrays["affinity"], units, diagnostics)
        stored = tuple(arrays[name] for name in ("data", "indices", "indptr"))
        return cls(scipy.sparse.csr_array(stored, shape=(len(units), len(units))), units, diagnostics)

    def require_groups(self, who: str, signed: bool = False) -> None:
        """Check the affinity for a partitioner. Errors: only zeros; negative entries, unless ``signed`` is True."""
        lowest, highest = self.matrix.min(), self.matrix.max()
        if not signed and lowest < 0:
            raise HarnessError(
                f"partitioner {who} needs non-negative affinities.",
                "Use affinity.transform=abs or affinity.transform=positive.",
            )
        if lowest == highest == 0:
            raise HarnessError(
                f"partitioner {who} has nothing to cluster: no two units have any affinity.",
                "Use another binarizer or more examples: constant units have no affinity.",
            )


def require_pairs(who: str, n: int) -> None:
    """Check that a matrix of all pairs is feasible. Errors: more than ``PAIRS_UP_TO`` units."""
    if n > PAIRS_UP_TO:
        raise HarnessError(
            f"{who} needs all pairs of units, and {n} x {n} x 8 bytes are {n * n * 8 / 2**30:.1f} GiB: "
            f"the limit is {PAIRS_UP_TO} units.",
            "Use methods that work on links: affinity=pearson_knn; partitioner=eigengap or partitioner=leiden; "
            "chooser=modularity",
        )


def signed_part(matrix: Float[np.ndarray, "units units"], sign: Sign) -> Float[np.ndarray, "units units"]:
    """The part of a signed matrix that counts as affinity."""
    if sign == "signed":
        return matrix
    part: Float[np.ndarray, "units units"] = np.abs(matrix) if sign == "abs" else np.maximum(matrix, 0.0)
    return part


@dataclass(frozen=True)
class Labels:
    """The classes of units, known without clustering them, and their selectivity.

    ``classes[i]`` is None for a unit without a label; it is ignored when agreement is computed. ``"unclassified"`` is a
    class like any other, as in the closure paper. ``selectivity``: by class, one number per unit. ``circuits``: the
    classes that are circuits, where others are known to be none; empty if that is not known.
    """

    classes: tuple[str | None, ...]
    units: UnitSpace
    selectivity: Mapping[str, Float[np.ndarray, " units"]] = field(default_factory=dict)
    circuits: frozenset[str] = frozenset()

    def reordered(self, order: np.ndarray, units: UnitSpace) -> Labels:
        """The same labels, for units in another order."""
        classes = tuple(self.classes[i] for i in order)
        return Labels(classes, units, {name: of[order] for name, of in self.selectivity.items()}, self.circuits)

    @cached_property
    def known(self) -> Int[np.ndarray, " known"]:
        """Positions of the units that have a label."""
        return np.array([i for i, label in enumerate(self.classes) if label is not None], dtype=int)

    @property
    def divide(self) -> bool:
        """Whether two units have one class, and a third one another.

        With less, agreement is 0/0 and not defined: no pair of units belongs together, or none belongs apart.
        """
        sizes = Counter(label for label in self.classes if label is not None)
        return len(sizes) > 1 and max(sizes.values()) > 1


@dataclass(frozen=True)
class Stability:
    """Mean adjusted Rand index between a partition and its reruns.

    ``seeds``: reruns from the same affinity, with other orders of units and other seeds. ``resamples``: reruns on
    bootstrap resamples of the observations. None: there were no such reruns.
    """

    seeds: float | None
    resamples: float | None


@dataclass(frozen=True)
class Partition:
    """One label per unit [units]; -1: in no group.

    ``k``: the number of groups requested (``labels`` may have fewer), or, if the partitioner decides, the number found.
    ``setting``: another parameter that distinguishes this partition from the others (``resolution = 0.5``).
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

    def without(self, groups: Iterable[tuple[int, ...]]) -> Partition:
        """The same partition with the units of these groups in no group."""
        labels = self.labels.copy()
        for group in groups:
            labels[list(group)] = -1
        return replace(self, labels=labels)

    @property
    def trivial(self) -> bool:
        """Whether it groups nothing: no group, one group of all units, or several groups of a single unit each.

        One unit that is selected from others is a group.
        """
        sizes = [len(group) for group in self.groups()]
        return not sizes or sizes[0] == len(self.labels) or (len(sizes) > 1 and max(sizes) == 1)

    @property
    def name(self) -> str:
        """``k = 10``, or the ``setting``."""
        return self.setting or f"k = {self.k}"


@dataclass(frozen=True)
class Agreement:
    """Agreement of a partition with labels, over the units that have a label.

    ``ari``: adjusted Rand index; ``nmi``: normalised mutual information (arithmetic mean);
    ``purity``: share of units whose class is the most common one of their group; ``units``: how many have a label
    (None: a record of an earlier version). Units in no group are compared as one group.
    """

    ari: float
    nmi: float
    purity: float
    units: int | None = None

    @classmethod
    def of(cls, partition: Partition, labels: Labels) -> Agreement | None:
        """The agreement. None where the labels divide nothing (:attr:`Labels.divide`), so that it is not defined."""
        from sklearn.metrics import normalized_mutual_info_score
        from sklearn.metrics.cluster import contingency_matrix

        if not labels.divide:
            return None
        known = labels.known
        truth = np.unique([str(labels.classes[i]) for i in known], return_inverse=True)[1]
        guess = partition.labels[known]
        table = contingency_matrix(truth, guess)
        return cls(
            adjusted_rand(truth, guess),
            float(normalized_mutual_info_score(truth, guess)),
            float(table.max(axis=0).sum() / table.sum()),
            len(known),
        )


@dataclass(frozen=True)
class Candidate:
    """A group to be tested, and why it was selected.

    ``score``: given by the selector. ``purity``: share of its labelled units that have its most common class.
    ``isolation``: mean |affinity| inside / mean |affinity| to other units. ``stability``: mean best Jaccard overlap
    with the groups of reruns on resamples. None where not defined (no labels; no affinity; no reruns). ``pruned``:
    units that were in the proposed group and are not in this one, because it does not need them.
    """

    members: tuple[int, ...]
    score: float | None = None
    purity: float | None = None
    isolation: float | None = None
    stability: float | None = None
    pruned: tuple[int, ...] = ()


def isolation(
    members: Sequence[int], matrix: Float[np.ndarray, "units units"] | scipy.sparse.csr_array
) -> float | None:
    """Mean |affinity| over pairs inside the group / mean |affinity| between its members and all other units.

    None where undefined: fewer than two members, no other units, or only zeros to other units.
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
    """Share of the group's labelled units that have its most common class. None where no unit has a label."""
    classes = [labels.classes[i] for i in members if labels.classes[i] is not None]
    return max(classes.count(c) for c in set(classes)) / len(classes) if classes else None


def jaccard(a: Collection[object], b: Collection[object]) -> float:
    """Units in both groups, as a share of the units in either: 1 for equal groups, 0 for disjoint ones."""
    both, either = set(a) & set(b), set(a) | set(b)
    if not either:
        raise HarnessError("the overlap of two empty groups is not defined.", "Compare groups with at least one unit.")
    return len(both) / len(either)


def best_overlap(group: Collection[int], groups: Iterable[Collection[int]]) -> float:
    """The largest Jaccard overlap with one of the groups. 0 where there are none."""
    return max((jaccard(group, other) for other in groups), default=0.0)


def adjusted_rand(a: Int[np.ndarray, " units"], b: Int[np.ndarray, " units"]) -> float:
    """Share of pairs of units on which two partitions agree, scaled so that chance gives 0 and equality gives 1.

    Equal to scikit-learn's ``adjusted_rand_score``, which spends twenty times longer on checking its input; a cell
    computes dozens of them.
    """
    first, second = (np.unique(labels, return_inverse=True)[1] for labels in (a, b))
    in_both, in_a, in_b = (_pairs(labels) for labels in (first * (second.max() + 1) + second, first, second))
    only_a, only_b = in_a - in_both, in_b - in_both
    neither = len(a) * (len(a) - 1) - in_both - only_a - only_b
    if not only_a and not only_b:
        return 1.0
    chance = (in_both + only_a) * (only_a + neither) + (in_both + only_b) * (only_b + neither)
    return 2.0 * (in_both * neither - only_a * only_b) / chance


def _pairs(labels: Int[np.ndarray, " units"]) -> int:
    """Ordered pairs of units with the same label, as a Python integer: products of two such counts exceed 64 bits."""
    sizes = np.unique(labels, return_counts=True)[1]
    return int((sizes * (sizes - 1)).sum())
