"""Stability: whether reruns find the same groups, with other orders and seeds, and on resampled observations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from harness.data.grouping import Partition, Stability, adjusted_rand
from harness.util.errors import HarnessError
from harness.util.seeds import rng_for, seed_for

Rerun = tuple[np.ndarray, Sequence[Partition]]
"""The order of units in a rerun, and the partitions that it found."""
Again = Callable[[np.ndarray, np.ndarray | None, int], Sequence[Partition]]
"""Computes partitions, given an order of units, rows of the observations (None: all, in order) and a seed."""


@dataclass(frozen=True)
class Reruns:
    """The reruns of both kinds. ``resamples`` is empty if there are no observations."""

    seeds: Sequence[Rerun]
    resamples: Sequence[Rerun]


def rerun(again: Again, n: int, units: int, observations: int | None, seed: int) -> Reruns:
    """``n`` reruns of each kind.

    A rerun shuffles the order of the units and gives every method another seed. A rerun on resamples also draws the
    observations again, with replacement. A rerun that raises an error is left out.
    """
    resamples = [] if observations is None else list(_reruns(again, "resamples", n, units, observations, seed))
    return Reruns(list(_reruns(again, "seeds", n, units, None, seed)), resamples)


def _reruns(again: Again, kind: str, n: int, units: int, observations: int | None, seed: int) -> Iterator[Rerun]:
    for i in range(n):
        rng = rng_for(seed, f"stability {kind} {i}")
        order = rng.permutation(units)
        rows = None if observations is None else rng.integers(0, observations, observations)
        try:
            yield order, again(order, rows, seed_for(seed, f"rerun {kind} {i}"))
        except HarnessError:
            continue


def with_stability(partitions: Sequence[Partition], reruns: Reruns) -> tuple[Partition, ...]:
    """The partitions, each with its mean adjusted Rand index against the same partition of the reruns."""
    return tuple(
        replace(
            partition,
            stability=Stability(_agreement(partition, reruns.seeds, i), _agreement(partition, reruns.resamples, i)),
        )
        for i, partition in enumerate(partitions)
    )


def _agreement(partition: Partition, reruns: Sequence[Rerun], i: int) -> float | None:
    if not reruns:
        return None
    return float(np.mean([adjusted_rand(partition.labels[order], found[i].labels) for order, found in reruns]))


def overlap(members: tuple[int, ...], reruns: Reruns, i: int) -> float | None:
    """Mean over reruns of the best Jaccard overlap of a group with one of the groups of the i-th partition.

    The reruns are those on resamples if there are any, else those with other seeds.
    """
    counted = reruns.resamples or reruns.seeds
    if not counted:
        return None
    return float(np.mean([_best_overlap(members, order, found[i].labels) for order, found in counted]))


def _best_overlap(members: tuple[int, ...], order: np.ndarray, labels: np.ndarray) -> float:
    """The best Jaccard overlap with a group of a rerun, from counts: a cell may have a thousand candidates."""
    again = np.empty_like(labels)
    again[order] = labels
    shared, both = np.unique(again[list(members)], return_counts=True)
    shared, both = shared[shared >= 0], both[shared >= 0]
    sizes = np.bincount(labels[labels >= 0], minlength=1)[shared]
    return float((both / (len(members) + sizes - both)).max(initial=0))
