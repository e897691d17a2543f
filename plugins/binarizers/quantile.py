"""Split at a quantile of the unit's own activity."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Interval

from harness import Activity, Binarizer, HarnessError, Spins, hookimpl


@dataclass(frozen=True)
class Quantile(Binarizer):
    r"""A unit is up where its activity is strictly above its own lower quantile.

    .. math:: s_{e,i} = +1 \text{ if } a_{e,i} > a_{(\lfloor q (n - 1) \rfloor), i} \text{ else } -1

    :math:`a_{(0), i} \le a_{(1), i} \le \dots` are the unit's sorted activities; ``q = 0.5`` is the median split. With
    ``q = 1`` no observation could be up, so ``q`` is below 1.

    Input: activity [observations, units]. Output: spins [observations, units] in {-1, +1}. Observations equal to the
    quantile are down. ``diagnostics.tied`` counts the ties that make a unit's split more uneven than ``q``;
    ``diagnostics.constant`` lists units that are never up.

    Errors: fewer than two observations.
    Source: none; the median split of the closure paper, section 3.4, at another quantile.
    """

    name: ClassVar[str] = "quantile"
    q: Annotated[float, Interval(ge=0, lt=1)] = field(
        default=0.75, metadata={"help": "share of observations that are down; 0.5 is the median split"}
    )

    def __call__(self, activity: Activity) -> Spins:
        values = activity.values
        n = len(values)
        if n < 2:
            raise HarnessError(
                "binarizer quantile: there is one observation, and at least two are needed.",
                "Use more examples: batch.n=...",
            )
        return Spins.above(activity, np.sort(values, axis=0)[math.floor(self.q * (n - 1))])


@hookimpl
def harness_binarizers() -> list[type[Quantile]]:
    return [Quantile]
