"""A measured share: the unit of every table of a calibration but the one of verdicts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from harness.closure.statistics import wilson_interval


@dataclass(frozen=True)
class Share:
    """How often something happened, with its 95 % interval.

    ``question``: ``level``, ``trained``, ``power``, ``candidates`` or ``coverage``. ``case``: the world, or what was
    planted in which world. ``heads``: units per layer (0: not applicable). ``profile``: units of a group by layer.
    ``method``: the test, the correction, or the interval. ``n``: of how many groups (circuits, cells, intervals).
    """

    question: str
    case: str
    heads: int
    profile: str
    method: str
    share: float
    low: float
    high: float
    n: int

    @classmethod
    def over_worlds(
        cls,
        question: str,
        case: str,
        heads: int,
        profile: str,
        method: str,
        happened: Float[np.ndarray, "worlds groups"],
    ) -> Share:
        """The share of all groups. Groups of one world are not independent, so the interval is over worlds.

        With one yes or no per world it is Wilson's interval.
        """
        share, worlds = float(happened.mean()), len(happened)
        if happened.shape[1] == 1 and np.isin(happened, (0, 1)).all():
            low, high = wilson_interval(int(happened.sum()), worlds)
        else:
            half = 1.96 * float(happened.mean(axis=1).std()) / worlds**0.5
            low, high = max(0.0, share - half), min(1.0, share + half)
        return cls(question, case, heads, profile, method, share, low, high, happened.size)
