"""Drawing distinct random groups from pools of units."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np


def draw_distinct(
    pools: Sequence[tuple[Sequence[int], int]], n: int, rng: np.random.Generator
) -> tuple[tuple[int, ...], ...]:
    """Up to ``n`` distinct groups, each made of ``count`` units from every ``(pool, count)``; uniform over all groups.

    Fewer than ``n`` come back only where fewer exist: then all of them do.
    """
    possible = math.prod(math.comb(len(pool), count) for pool, count in pools)
    if possible <= 4 * n:  # few enough to list: rejection would draw the same ones over and over
        choices = itertools.product(*(itertools.combinations(pool, count) for pool, count in pools))
        every = [tuple(sorted(itertools.chain(*parts))) for parts in choices]
        return tuple(every[i] for i in rng.permutation(len(every))[:n])
    groups: dict[tuple[int, ...], None] = {}
    while len(groups) < n:
        parts = [rng.choice(len(pool), count, replace=False) for pool, count in pools]
        groups[tuple(sorted(pool[i] for (pool, _), part in zip(pools, parts, strict=True) for i in part))] = None
    return tuple(groups)
