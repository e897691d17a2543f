"""Split at a quantile of the unit's own activity."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from harness import Activity, HarnessError, Spins, hookimpl


@dataclass(frozen=True)
class Quantile:
    r"""A unit is up where its activity is strictly above its own lower quantile.

    .. math:: s_{e,i} = +1 \text{ if } a_{e,i} > a_{(\lfloor q (n - 1) \rfloor), i} \text{ else } -1

    :math:`a_{(0), i} \le a_{(1), i} \le \dots` are the unit's activities by size; ``q = 0.5`` is the median split.

    Input: activity [observations, units]. Output: spins [observations, units] in {-1, +1}.
    Observations equal to the quantile go down; ``diagnostics.tied`` and ``diagnostics.constant`` name the units where
    that makes the split more uneven than asked for, or where nothing is up.

    Errors: ``q`` outside [0, 1), where nothing would ever be up; fewer than two observations.
    Source: none; the median split of the closure paper, section 3.4, at another quantile.
    """

    name: ClassVar[str] = "quantile"
    q: float = field(default=0.75, metadata={"help": "share of the observations that are down"})

    def __post_init__(self) -> None:
        if not 0 <= self.q < 1:
            raise HarnessError(f"binarizer.q={self.q}: it must be at least 0 and below 1.", "A median split: 0.5")

    def __call__(self, activity: Activity) -> Spins:
        values = activity.values
        n = len(values)
        if n < 2:
            raise HarnessError("binarizer quantile: one observation has no split.", "Use at least two examples.")
        return Spins.above(activity, np.sort(values, axis=0)[math.floor(self.q * (n - 1))])


@hookimpl
def harness_binarizers() -> list[type[Quantile]]:
    return [Quantile]
