"""How units hang together: affinity, labels, partition, candidate, and how well a partition agrees with labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from harness.errors import HarnessError
from harness.units import UnitSpace

UNCLASSIFIED = "unclassified"
Sign = Literal["abs", "positive", "signed"]
"""What of a signed affinity counts: |a|, max(a, 0), or a as it is."""


@dataclass(frozen=True)
class Affinity:
    """How alike two units behave: a symmetric matrix [units, units] with zero diagonal, in the method's own unit.

    ``diagnostics`` carries what a reader must know before trusting it (near-separable fits, constant units, ...).

    Errors: wrong size, NaN or infinity, asymmetry, a non-zero diagonal.
    """

    matrix: Float[np.ndarray, "units units"]
    units: UnitSpace
    diagnostics: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = len(self.units)
        if self.matrix.shape != (n, n):
            raise HarnessError(f"affinity of shape {self.matrix.shape} does not fit {n} units.")
        if not np.isfinite(self.matrix).all():
            raise HarnessError("affinity holds NaN or infinite entries.")
        if not np.allclose(self.matrix, self.matrix.T, rtol=1e-6, atol=1e-9):
            raise HarnessError("affinity is not symmetric.", "Return (A + A.T) / 2, or fix the estimate.")
        if np.diagonal(self.matrix).any():
            raise HarnessError("affinity has a non-zero diagonal.", "A unit is not its own neighbour: set it to zero.")

    def require_groups(self, who: str, signed: bool = False) -> None:
        """For partitioners. Errors: nothing but zeros; negative entries, unless ``signed`` ones are understood."""
        if not signed and (self.matrix < 0).any():
            raise HarnessError(
                f"partitioner {who} needs non-negative affinities.",
                "Choose what of a signed affinity counts: affinity.transform=abs or affinity.transform=positive",
            )
        if not self.matrix.any():
            raise HarnessError(
                f"partitioner {who}: no two units have any affinity, so there is nothing to cluster.",
                "Units that never change have none: see what the binarizer says, or use more examples.",
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
        found = np.unique(self.labels)
        return [tuple(np.flatnonzero(self.labels == label).tolist()) for label in found if label >= 0]

    @property
    def trivial(self) -> bool:
        """Whether it says nothing: no group at all, one group of all units, or every unit by itself."""
        groups = self.groups()
        return not groups or len(groups[0]) == len(self.labels) or len(groups) == len(self.labels)

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


def isolation(members: Sequence[int], matrix: Float[np.ndarray, "units units"]) -> float | None:
    """Mean |affinity| over pairs inside the group / mean |affinity| between members and all others.

    None where undefined: fewer than two members, no others, or nothing but zeros outside.
    """
    inside = np.zeros(len(matrix), dtype=bool)
    inside[list(members)] = True
    strength = np.abs(matrix)
    if inside.sum() < 2 or inside.all():
        return None
    within = strength[np.ix_(inside, inside)][np.triu_indices(inside.sum(), 1)].mean()
    across = strength[np.ix_(inside, ~inside)].mean()
    return float(within / across) if across > 0 else None


def purity(members: Sequence[int], labels: Labels) -> float | None:
    """Share of the group's labelled units that are of its most common class; None where none is labelled."""
    classes = [labels.classes[i] for i in members if labels.classes[i] is not None]
    return max(classes.count(c) for c in set(classes)) / len(classes) if classes else None
