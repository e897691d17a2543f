"""Split at the unit's own median."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from harness import Activity, Binarizer, HarnessError, Spins, hookimpl


@dataclass(frozen=True)
class Median(Binarizer):
    r"""A unit is up where its activity is strictly above its own lower median.

    .. math:: s_{e,i} = +1 \text{ if } a_{e,i} > \operatorname{median}_e(a_{e,i}) \text{ else } -1

    Input: activity [observations, units]. Output: spins [observations, units] in {-1, +1}.
    The lower median is the ``floor((n - 1) / 2)``-th smallest value, counted from 0. Without ties, exactly
    ``floor(n / 2)`` observations are up. Observations equal to the median are down, so many ties (a saturated head)
    make the split uneven. ``diagnostics.tied`` counts, per unit, the ties beyond the observation that defines the
    median; ``diagnostics.constant`` lists units that are never up (constant activity, or a median that is the maximum).

    Errors: fewer than two observations.
    Source: closure paper, section 3.4 (lower median as in the published scripts).
    """

    name: ClassVar[str] = "median"

    def __call__(self, activity: Activity) -> Spins:
        values = activity.values
        if len(values) < 2:
            raise HarnessError(
                "binarizer median: there is one observation, and at least two are needed.",
                "Use more examples: batch.n=...",
            )
        return Spins.above(activity, np.sort(values, axis=0)[(len(values) - 1) // 2])


@hookimpl
def harness_binarizers() -> list[type[Median]]:
    return [Median]
