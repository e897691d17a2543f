"""How many groups a partitioner makes: as requested, or scaled to the number of units."""

from __future__ import annotations

from collections.abc import Sequence

from harness import HarnessError

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
