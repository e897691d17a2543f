"""What the most damaging groups have in common."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from harness.data.sampling import Group

TOP = 0.05
"""The share of groups that count as the most damaging; at least :data:`FEWEST`."""
FEWEST = 5
CHANCE = 1e-3


def shared_unit(groups: Sequence[Group], damages: Sequence[float]) -> tuple[int, int, int, int] | None:
    """The unit that the most damaging groups share: its position, in how many of them it is, how many these are, and in
    how many groups of all it is.

    None: no unit is in significantly more of them than in as many random ones (hypergeometric test at .001, corrected
    for the number of units).
    """
    from scipy.stats import hypergeom

    most = max(FEWEST, round(TOP * len(groups)))
    if len(groups) < 4 * FEWEST:
        return None
    order = sorted(range(len(groups)), key=lambda i: -damages[i])[:most]
    everywhere = Counter(unit for group in groups for unit in group)
    top = Counter(unit for i in order for unit in groups[i])
    chances = {
        unit: hypergeom.sf(count - 1, len(groups), everywhere[unit], most) * len(everywhere)
        for unit, count in top.items()
    }
    unit = min(chances, key=lambda unit: (chances[unit], unit))
    return (unit, top[unit], most, everywhere[unit]) if chances[unit] <= CHANCE else None
