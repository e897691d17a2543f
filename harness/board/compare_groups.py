"""Compares what two cells propose: how alike their chosen partitions are, and their candidates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from jaxtyping import Int

from harness.board.task import batch_digest, seed_of, subject_digest
from harness.data.grouping import FEWEST, adjusted_rand, jaccard
from harness.data.units import named
from harness.records.record import PartitionRecord, Record
from harness.util.errors import HarnessError


@dataclass(frozen=True)
class Overlap:
    """Two candidates, of A and of B, and the share of the units of either that are in both."""

    a: tuple[str, ...]
    b: tuple[str, ...]
    jaccard: float


@dataclass(frozen=True)
class Groups:
    """The groups of one cell. ``partition``: the name of the chosen one; ``reruns``: its mean ARI with reruns on
    resampled examples. None: there is no partition, because the group was named ``by_hand``; there were no reruns.
    """

    cell: str
    title: str
    units: int
    by_hand: bool
    partition: str | None
    reruns: float | None

    @classmethod
    def of(cls, record: Record) -> Groups:
        """Errors: a cell without units, because it did not reach its end."""
        cell, partition = record.cell, record.partition
        if not record.units:
            raise HarnessError(
                f"cell {cell.id} has no groups: {record.status.value}. {record.reason}".rstrip(),
                "Name two cells that have reached their end: harness leaderboard",
            )
        return cls(
            cell=cell.id,
            title=cell.title,
            units=len(record.units),
            by_hand=bool(record.config.get("group")),
            partition=partition.name if partition else None,
            reruns=partition.stability.resamples if partition and partition.stability else None,
        )


@dataclass(frozen=True)
class GroupComparison:
    """The groups of two cells, A and B.

    ``differ``: in what the cells differ. ``common``: how many units have the same label in both. ``ari``, ``nmi``:
    adjusted Rand index and normalised mutual information (arithmetic mean) of the chosen partitions over the common
    units; units in no group count as one group. None: a cell has no partition, or they have no unit in common.
    ``overlaps``: every candidate with the most similar one of the other cell.
    """

    a: Groups
    b: Groups
    differ: tuple[str, ...]
    common: int
    ari: float | None
    nmi: float | None
    overlaps: tuple[Overlap, ...]


def compare_groups(first: Record, second: Record) -> GroupComparison:
    """Partitions and candidates of two cells, on any examples. Errors: a cell that did not reach its end."""
    from sklearn.metrics import normalized_mutual_info_score

    a, b = Groups.of(first), Groups.of(second)
    common = sorted(set(first.units) & set(second.units))
    ari = nmi = None
    if len(common) >= FEWEST and first.partition and second.partition:
        labels = [_labels(record.units, record.partition, common) for record in (first, second) if record.partition]
        ari, nmi = adjusted_rand(*labels), float(normalized_mutual_info_score(*labels))
    return GroupComparison(a, b, _differ(first, second), len(common), ari, nmi, _overlaps(first, second))


def groups_text(comparison: GroupComparison) -> str:
    """The agreement of the partitions, and of the candidates, in sentences."""
    lines = [
        f"A  {comparison.a.title}",
        f"B  {comparison.b.title}",
        _units_text(comparison),
        _partitions_text(comparison),
        _reruns_text(comparison),
        *(
            f"candidates: Jaccard {overlap.jaccard:.2f}   A {named(overlap.a)}   B {named(overlap.b)}"
            for overlap in comparison.overlaps
        ),
    ]
    return "\n".join(line for line in lines if line)


def _units_text(comparison: GroupComparison) -> str:
    a, b, common = comparison.a.units, comparison.b.units, comparison.common
    return "" if a == b == common else f"units: A has {a}, B has {b}; {common or 'none'} with the same label in both"


def _partitions_text(comparison: GroupComparison) -> str:
    a, b = comparison.a, comparison.b
    if comparison.ari is not None:
        return (
            f"partitions: A {a.partition}, B {b.partition}: ARI {comparison.ari:.2f}, NMI {comparison.nmi:.2f} over "
            f"{comparison.common} units (1: equal; ARI 0: as alike as by chance)"
        )
    lacking = [
        f"{letter} {'is named by hand and ' if groups.by_hand else ''}has no partition"
        for letter, groups in {"A": a, "B": b}.items()
        if groups.partition is None
    ]
    common = {0: "no unit", 1: "one unit"}.get(comparison.common, f"{comparison.common} units")
    return f"partitions: not compared: {'; '.join(lacking) or f'the cells have {common} in common'}"


def _reruns_text(comparison: GroupComparison) -> str:
    """Whether the partitions differ more than chance in the choice of examples explains."""
    a, b = comparison.a.reruns, comparison.b.reruns
    if comparison.ari is None or a is None or b is None or not comparison.differ:
        return ""
    what = " and ".join(comparison.differ)
    if comparison.ari < min(a, b):
        conclusion = f"less alike than reruns on resampled examples (ARI {a:.2f}, {b:.2f}): groups depend on the {what}"
    else:
        conclusion = (
            f"at least as alike as reruns on resampled examples (ARI {a:.2f}, {b:.2f}): "
            f"no evidence that groups depend on the {what}"
        )
    return f"  {conclusion}"


def _labels(units: Sequence[str], partition: PartitionRecord, chosen: Sequence[str]) -> Int[np.ndarray, " chosen"]:
    """The groups of the chosen units, in this order."""
    group = dict(zip(units, partition.labels, strict=True))
    return np.array([group[unit] for unit in chosen])


def _differ(first: Record, second: Record) -> tuple[str, ...]:
    """In what two cells differ by content: equal names can hide another model, or other parameters."""
    contents = {
        "subject": subject_digest,
        "batch": lambda record: batch_digest(record) or record.cell.batch,
        "method": lambda record: record.cell.row,
        "intervention": lambda record: record.config.get("intervention", record.cell.intervention),
        "seed": seed_of,
    }
    return tuple(part for part, content in contents.items() if content(first) != content(second))


def _overlaps(first: Record, second: Record) -> tuple[Overlap, ...]:
    """Pairs of candidates, each with its best match, without repetition."""
    a, b = ([candidate.units for candidate in record.candidates] for record in (first, second))
    if not a or not b:
        return ()
    pairs = chain(
        ((one, max(b, key=lambda other: jaccard(one, other))) for one in a),
        ((max(a, key=lambda one: jaccard(one, other)), other) for other in b),
    )
    return tuple(Overlap(one, other, jaccard(one, other)) for one, other in dict.fromkeys(pairs))
