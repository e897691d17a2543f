"""Compares what two cells propose: how alike their chosen partitions are, and their candidates."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

import numpy as np

from harness.data.grouping import adjusted_rand, jaccard
from harness.data.units import named
from harness.records.record import Record
from harness.util.errors import HarnessError


@dataclass(frozen=True)
class Overlap:
    """Two candidates, of A and of B, and the share of the units of either that are in both."""

    a: tuple[str, ...]
    b: tuple[str, ...]
    jaccard: float


@dataclass(frozen=True)
class GroupComparison:
    """The groups of two cells, A and B.

    ``differ``: in what the cells differ. ``units``: how many units each has, and how many have the same label in both.
    ``ari``, ``nmi``: adjusted Rand index and normalised mutual information (arithmetic mean) of the two chosen
    partitions over the common units; units in no group count as one group. None: a cell has no partition, or they have
    no unit in common. ``reruns``: the stability of each partition, its mean ARI with reruns on resampled examples.
    ``overlaps``: every candidate with the most similar one of the other cell.
    """

    cells: tuple[str, str]
    titles: tuple[str, str]
    differ: tuple[str, ...]
    units: tuple[int, int, int]
    partitions: tuple[str | None, str | None]
    by_hand: tuple[bool, bool]
    ari: float | None
    nmi: float | None
    reruns: tuple[float | None, float | None]
    overlaps: tuple[Overlap, ...]


def compare_groups(first: Record, second: Record) -> GroupComparison:
    """Partitions and candidates of two cells, on any examples.

    Errors: a cell without units, because it did not reach its end.
    """
    from sklearn.metrics import normalized_mutual_info_score

    for record in (first, second):
        if not record.units:
            raise HarnessError(
                f"cell {record.cell.id} has no groups: {record.status.value}. {record.reason}".rstrip(),
                "Name two cells that have reached their end: harness leaderboard",
            )
    common = [label for label in first.units if label in set(second.units)]
    partitions = (first.partition, second.partition)
    ari = nmi = None
    if common and partitions[0] and partitions[1]:
        labels = [
            np.array([dict(zip(record.units, partition.labels, strict=True))[label] for label in common])
            for record, partition in zip((first, second), partitions, strict=True)
            if partition
        ]
        ari, nmi = adjusted_rand(*labels), float(normalized_mutual_info_score(*labels))
    return GroupComparison(
        cells=(first.cell.id, second.cell.id),
        titles=(first.cell.title, second.cell.title),
        differ=_differ(first, second),
        units=(len(first.units), len(second.units), len(common)),
        partitions=tuple(partition.name if partition else None for partition in partitions),
        by_hand=tuple(bool(record.config.get("group")) for record in (first, second)),
        ari=ari,
        nmi=nmi,
        reruns=tuple(p.stability.resamples if p and p.stability else None for p in partitions),
        overlaps=_overlaps(first, second),
    )


def groups_text(comparison: GroupComparison) -> str:
    """The agreement of the partitions, and of the candidates, in sentences."""
    lines = [
        *(f"{letter}  {title}" for letter, title in zip("AB", comparison.titles, strict=True)),
        _units_text(comparison.units),
        _partitions_text(comparison),
        _reruns_text(comparison),
        *(
            f"candidates: Jaccard {overlap.jaccard:.2f}   A {named(overlap.a)}   B {named(overlap.b)}"
            for overlap in comparison.overlaps
        ),
    ]
    return "\n".join(line for line in lines if line)


def _units_text(units: tuple[int, int, int]) -> str:
    first, second, common = units
    if first == second == common:
        return ""
    return f"units: A has {first}, B has {second}; {common or 'none'} with the same label in both"


def _partitions_text(comparison: GroupComparison) -> str:
    if comparison.ari is not None:
        a, b = comparison.partitions
        return (
            f"partitions: A {a}, B {b}: ARI {comparison.ari:.2f}, NMI {comparison.nmi:.2f} over {comparison.units[2]} "
            "units (1: equal; ARI 0: as alike as by chance)"
        )
    lacking = [
        f"{letter} {'is named by hand and ' if by_hand else ''}has no partition"
        for letter, name, by_hand in zip("AB", comparison.partitions, comparison.by_hand, strict=True)
        if name is None
    ]
    return f"partitions: not compared: {'; '.join(lacking) or 'the cells have no unit in common'}"


def _reruns_text(comparison: GroupComparison) -> str:
    """Whether the partitions differ more than chance in the choice of examples explains."""
    a, b = comparison.reruns
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


def _differ(first: Record, second: Record) -> tuple[str, ...]:
    parts = ("subject", "batch", "method", "intervention")
    differ = [part for part in parts if getattr(first.cell, part) != getattr(second.cell, part)]
    return (*differ, *(["seed"] if first.config.get("seed") != second.config.get("seed") else []))


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
