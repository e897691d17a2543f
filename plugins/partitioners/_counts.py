"""How many groups a partitioner makes (as requested, or scaled to the number of units), and of which units."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from jaxtyping import Float, Int

from harness import Affinity, HarnessError, Partition

HELP = "numbers of groups, one partition each; null: scaled to the number of units"
COARSE, FINE = 16, 2
"""Mean units per group in the coarsest and the finest partition."""
FEWEST = 4
"""Groups in the coarsest partition of few units."""


def numbers_of_groups(requested: Sequence[int] | None, units: int) -> tuple[int, ...]:
    """The requested numbers of groups, or five to seven numbers that are scaled to the number of units.

    Scaled numbers are powers of two and three times powers of two, so that models of similar size share most of them.
    With them, groups have 16 to 2 units on average, and there are at least 4: 4, 6, 8, 12, 16 groups of 32 units; 24,
    32, 48, 64, 96, 128 of 270. Fewer than 8 units are divided into groups of two or three.

    Errors: more groups than units; a single unit.
    """
    most = max(2, units // FINE)
    fewest = min(max(FEWEST, units / COARSE), most)
    scaled = [k for power in range(1, most.bit_length()) for k in (2**power, 3 * 2 ** (power - 1))]
    ks = tuple(k for k in scaled if fewest <= k <= most) if requested is None else tuple(requested)
    if units < 2:
        raise HarnessError(f"{units} unit cannot be divided into groups.", "Use a subject with more units.")
    if max(ks) > units:
        usable = ",".join(str(k) for k in ks if k <= units) or str(units)
        raise HarnessError(
            f"partitioner.k={list(ks)}: {max(ks)} groups cannot be made of {units} units.",
            f"Use numbers of groups up to {units}: 'partitioner.k=[{usable}]'",
        )
    return ks


def partitions_of_linked(
    affinity: Affinity,
    order: Int[np.ndarray, " units"],
    ks: Sequence[int],
    who: str,
    cluster: Callable[[Float[np.ndarray, "linked linked"], Sequence[int]], Iterable[Int[np.ndarray, " linked"]]],
) -> list[Partition]:
    """One partition per number of groups, of the units that have any affinity, taken in this order.

    Units without any affinity are like no other unit, also not like each other: they are in no group, and
    ``diagnostics.isolated`` names them. Where there are not more than k other units, each of them is a group.
    ``cluster`` divides a matrix into each of several numbers of groups.

    Errors: a sparse affinity with too many units for a matrix of all pairs.
    """
    linked, isolated = order[~affinity.isolated[order]], order[affinity.isolated[order]]
    matrix = affinity.dense(who)[np.ix_(linked, linked)]
    fewer = [k for k in ks if k < len(linked)]
    groups = dict(zip(fewer, cluster(matrix, fewer), strict=True)) if fewer else {}
    partitions = []
    for k in ks:
        labels = np.full(len(order), -1, dtype=np.int64)
        labels[linked] = groups.get(k, np.arange(len(linked)))
        partitions.append(Partition(k, labels, diagnostics={"isolated": affinity.units.names(isolated)}))
    return partitions
