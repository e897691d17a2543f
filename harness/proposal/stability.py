"""Whether the same groups are found again: in other orders, from other seeds, on resamples of the observations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from harness.data.grouping import Partition, Stability, adjusted_rand, best_overlap
from harness.util.errors import HarnessError
from harness.util.seeds import rng_for, seed_for

if TYPE_CHECKING:
    from harness.proposal.proposal import Proposal


def with_stability(proposal: Proposal) -> tuple[Partition, ...]:
    """The partitions a proposal found, each with how well it is found again in ``proposal.reruns`` reruns of each kind.

    A rerun shuffles the order of the units and gives every method another seed; of the second kind, it also draws the
    observations anew, with replacement, and fits the affinity to them. One that finds nothing at all is left out.
    """
    if not proposal.reruns:
        return proposal.found
    seeds, resamples = proposal.reruns_found
    return tuple(
        replace(partition, stability=Stability(_agreement(partition, seeds, i), _agreement(partition, resamples, i)))
        for i, partition in enumerate(proposal.found)
    )


Rerun = tuple[np.ndarray, Sequence[Partition]]
"""The order of units in a rerun, and what it found."""


def rerun_partitions(proposal: Proposal) -> tuple[list[Rerun], list[Rerun]]:
    """Reruns from other orders and seeds, and on resamples as well (none where nothing was measured)."""
    _ = proposal.found  # whatever it depends on has been made after this, and is what reruns start from
    measured = proposal.measured if proposal.has("measured") else None
    seeds = list(_reruns(proposal, "seeds", None))
    return seeds, list(_reruns(proposal, "resamples", len(measured.values))) if measured else []


def overlap(members: tuple[int, ...], reruns: Sequence[Rerun], i: int) -> float | None:
    """Mean over reruns of the best Jaccard overlap of a group with one of the groups of the i-th partition."""
    if not reruns:
        return None
    bests = [best_overlap(members, _touched(members, order, found[i].labels)) for order, found in reruns]
    return float(np.mean(bests))


def _touched(members: tuple[int, ...], order: np.ndarray, labels: np.ndarray) -> list[list[int]]:
    """The groups of a rerun that share a unit with these: few, however many there are."""
    again = np.empty_like(labels)
    again[order] = labels
    shared = np.unique(again[list(members)])
    return [np.flatnonzero(again == label).tolist() for label in shared if label >= 0]


def _reruns(proposal: Proposal, kind: str, observations: int | None) -> Iterator[Rerun]:
    for i in range(proposal.reruns):
        rng = rng_for(proposal.seed, f"stability {kind} {i}")
        order = rng.permutation(len(proposal.units))
        rows = None if observations is None else rng.integers(0, observations, observations)
        again = proposal.again(order, rows, seed_for(proposal.seed, f"rerun {kind} {i}"))
        try:
            yield order, again.found
        except HarnessError:
            continue


def _agreement(partition: Partition, reruns: Sequence[Rerun], i: int) -> float | None:
    if not reruns:
        return None
    return float(np.mean([adjusted_rand(partition.labels[order], found[i].labels) for order, found in reruns]))
