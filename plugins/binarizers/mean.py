"""Split at the unit's own mean."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from harness import Activity, Binarizer, HarnessError, Spins, hookimpl


@dataclass(frozen=True)
class Mean(Binarizer):
    r"""A unit is up where its activity is strictly above its own mean.

    .. math:: s_{e,i} = +1 \text{ if } a_{e,i} > \tfrac{1}{n} \textstyle\sum_e a_{e,i} \text{ else } -1

    Input: activity [observations, units]. Output: spins [observations, units] in {-1, +1}.
    The split is uneven where activity is skewed: a unit that is rarely active is up only in those observations. Units
    with constant activity are listed in ``diagnostics.constant``.

    Errors: fewer than two observations.
    Source: none; an alternative to the median split of the closure paper, section 3.4.
    """

    name: ClassVar[str] = "mean"

    def __call__(self, activity: Activity) -> Spins:
        values = activity.values
        n = len(values)
        if n < 2:
            raise HarnessError(
                "binarizer mean: there is one observation, and at least two are needed.",
                "Use more examples: batch.n=...",
            )
        # fsum, because other sums depend on the order of the observations in the last digit; clipped, because the
        # rounded mean of a constant unit may differ from its value.
        means = np.array([math.fsum(column) / n for column in values.T])
        return Spins.above(activity, np.clip(means, values.min(axis=0), values.max(axis=0)))


@hookimpl
def harness_binarizers() -> list[type[Mean]]:
    return [Mean]
