"""Claim: communities depend on the distribution of the examples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from harness.board.claims.claim import ALPHA, Claim, Finding, cells, supported, without
from harness.data.grouping import adjusted_rand
from harness.records.record import FINISHED, Record


def judge(records: Sequence[Record]) -> Finding | None:
    """Partitions with the same name by one method on one model: alike within a batch, less so between two batches."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        if record.status in FINISHED and record.partitions and not record.strata:
            groups.setdefault(without(record, "batch"), []).append(record)
    compared = [found for alike in groups.values() if (found := _two_batches(alike))]
    if not compared:
        return None
    within, between, p = (float(value) for value in _statistics(compared))
    evidence = (
        f"ARI of the partitions of two cells: {within:.2f} within a batch (other examples), {between:.2f} between two "
        f"batches (p {p:.3f})"
    )
    return Finding(supported(p <= ALPHA), evidence, cells([record for alike in compared for record in alike]))


def _two_batches(alike: Sequence[Record]) -> list[Record] | None:
    """The cells of the two most frequent batches, as many of each, two or more. None: there are no such cells."""
    by_batch: dict[str, list[Record]] = {}
    for record in alike:
        by_batch.setdefault(str(record.config["batch"]["name"]), []).append(record)
    most = sorted(by_batch.values(), key=len, reverse=True)[:2]
    n = min(map(len, most))
    return [record for batch in most for record in batch[:n]] if len(most) == 2 and n > 1 else None


def _statistics(compared: Sequence[Sequence[Record]]) -> tuple[float, float, float]:
    """Mean ARI within and between batches, and p of their difference over all divisions of the cells in halves.

    Each division is the same for all methods, as far as they have as many cells.
    """
    from itertools import combinations

    matrices = [alikeness(records) for records in compared]
    size = len(matrices[0])
    whole = np.mean([matrix for matrix in matrices if len(matrix) == size], axis=0)
    within, between = within_and_between(whole, range(size // 2))
    own = within - between
    differences = [
        np.subtract(*within_and_between(whole, (0, *rest))) for rest in combinations(range(1, size), size // 2 - 1)
    ]
    return within, between, float(np.mean(np.array(differences) >= own - 1e-12))


def within_and_between(matrix: Float[np.ndarray, "cells cells"], half: Sequence[int]) -> tuple[float, float]:
    """Mean of a symmetric matrix over pairs in the same half, and over pairs in two halves, without its diagonal."""
    inside = np.isin(np.arange(len(matrix)), half)
    same = np.equal.outer(inside, inside)
    return float(matrix[same & ~np.eye(len(matrix), dtype=bool)].mean()), float(matrix[~same].mean())


def alikeness(records: Sequence[Record]) -> Float[np.ndarray, "cells cells"]:
    """ARI of every two cells, averaged over the partitions that both have."""
    labels = [{p.name: np.array(p.labels) for p in record.partitions} for record in records]
    return np.array(
        [[np.mean([adjusted_rand(a[name], b[name]) for name in a.keys() & b.keys()]) for b in labels] for a in labels]
    )


CLAIM = Claim(
    text="Communities depend on the distribution: synthetic and natural examples give different ones.",
    source="closure paper, section 4 (NMI .10 to .42, ARI .00 to .15 between synthetic and natural examples)",
    rule=f"partitions are less alike between two batches than between other examples of one batch, p at most {ALPHA}",
    experiment="paper_claims",
    judge=judge,
    published="ARI between batches is .00 to .15; no other examples of one batch were published to compare with.",
)
