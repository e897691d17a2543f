"""Random groups: a baseline that every method should beat."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Ge, MinLen
from harness_plugins.partitioners._counts import HELP, numbers_of_groups

from harness import Partition, Partitioner, UnitSpace, hookimpl, rng_for


@dataclass(frozen=True)
class Random(Partitioner):
    r"""Random groups of nearly equal size, one partition per number of groups.

    .. math:: g_{\pi(i)} = i \bmod k, \qquad \pi \text{ a random permutation of the units}

    A baseline: it uses only the names of the units. Its adjusted Rand index with any labels is 0 on average.

    Input: units. Output: one partition per ``k``; group sizes differ by at most one. The same seed gives a unit the
    same group, whatever the order of the units. Partitions of different ``k`` are independent draws.

    Errors: ``k`` above the number of units.
    Source: Hubert & Arabie 1985 (the adjusted index is 0 in expectation for random groups of fixed sizes).
    """

    name: ClassVar[str] = "random"
    k: Annotated[tuple[Annotated[int, Ge(2)], ...], MinLen(1)] | None = field(default=None, metadata={"help": HELP})
    seed: int = field(default=0, metadata={"help": "seed of the permutations"})

    def __call__(self, units: UnitSpace) -> list[Partition]:
        n = len(units)
        ks = numbers_of_groups(self.k, n)
        partitions = []
        for k in ks:
            labels = np.empty(n, dtype=np.int64)
            labels[units.canonical] = rng_for(self.seed, f"random partition, k = {k}").permutation(np.arange(n) % k)
            partitions.append(Partition(k, labels))
        return partitions


@hookimpl
def harness_partitioners() -> list[type[Random]]:
    return [Random]
