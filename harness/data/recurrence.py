"""How many units groups have in common over models, against groups drawn at random."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from itertools import combinations

import numpy as np
from jaxtyping import Float, Int

from harness.data.sampling import Group
from harness.util.seeds import rng_for

DRAWS = 9999


def overlap_distribution(
    first: Int[np.ndarray, " cells"], second: Int[np.ndarray, " cells"], sizes: Int[np.ndarray, " cells"]
) -> Float[np.ndarray, " shared"]:
    r"""Probability of each number of shared units of two random groups that have so many units in each cell.

    .. math:: P(k_c) = \binom{a_c}{k_c} \binom{n_c - a_c}{b_c - k_c} \Big/ \binom{n_c}{b_c}, \qquad k = \sum_c k_c

    ``first``, ``second``: units a, b of each group by cell (a site, or the whole model); ``sizes``: units n of it. A
    sum of independent hypergeometric numbers: the convolution of their distributions.
    """
    from scipy.stats import hypergeom

    of_cells = [hypergeom.pmf(np.arange(min(a, b) + 1), n, a, b) for a, b, n in zip(first, second, sizes, strict=True)]
    whole: Float[np.ndarray, " shared"] = reduce(np.convolve, of_cells, np.ones(1))
    return whole


def times_distribution(shares: Sequence[float]) -> Float[np.ndarray, " times"]:
    """Probability that a unit is in so many groups, where each has it with its own probability, independently.

    The Poisson binomial distribution, by convolution.
    """
    whole: Float[np.ndarray, " times"] = reduce(np.convolve, [[1 - p, p] for p in shares], np.ones(1))
    return whole


def p_at_least(distribution: Float[np.ndarray, " values"], value: int) -> float:
    """Probability of this value or a larger one."""
    return float(min(1.0, distribution[value:].sum()))


def shared_units(groups: Sequence[Group]) -> int:
    """Units in common, summed over all pairs of groups."""
    return sum(len(set(a) & set(b)) for a, b in combinations(groups, 2))


def recurrence_p(groups: Sequence[Group], cell_of: Int[np.ndarray, " units"], seed: int = 0) -> float:
    r"""p of the units that groups share, over all pairs, among that of groups drawn at random.

    .. math:: p = \frac{1 + \#\{S_i \ge S\}}{1 + n}, \qquad S = \sum_{g < h} |g \cap h|, \qquad n = 9999

    Each group is drawn again with as many units in each cell (``cell_of``: the cell of every unit), independently.
    """
    rng = rng_for(seed, "recurrence of units over groups")
    cells = [np.flatnonzero(cell_of == cell) for cell in range(int(cell_of.max()) + 1)]
    times = np.zeros((DRAWS, len(cell_of)), dtype=np.int64)
    for group in groups:
        counts = np.bincount(cell_of[list(group)], minlength=len(cells))
        for units, count in zip(cells, counts.tolist(), strict=True):
            if count:
                order = rng.random((DRAWS, len(units))).argsort(axis=1)
                np.add.at(times, (np.arange(DRAWS)[:, None], units[order[:, :count]]), 1)
    drawn = (times * (times - 1) // 2).sum(axis=1)  # a unit in t groups is shared by t (t - 1) / 2 pairs
    return (1 + int((drawn >= shared_units(groups)).sum())) / (1 + DRAWS)
