"""The units whose score reaches a threshold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from harness import Partition, Partitioner, Scores, hookimpl


@dataclass(frozen=True)
class Threshold(Partitioner):
    r"""The units whose score reaches a threshold, as one group.

    .. math:: g = \{i : x_i \ge \theta\}

    With ``signal=target_selectivity`` it is the capability screen: every head that attends to the target so many times
    more than to other positions, whatever it attends to most. A group of all units, or of none, is not tested.

    Input: one score per unit [n_units], in the signal's unit. Output: one partition: group 0; all other units are in no
    group. ``diagnostics.highest`` is the highest score.

    Errors: none.
    Source: probe-circuits paper (its screen takes the heads with an induction selectivity of at least 50).
    """

    name: ClassVar[str] = "threshold"
    known_limits: ClassVar[Mapping[str, str]] = {
        "finds groups where there are some": "the threshold is a number in the unit of the signal"
    }
    at: float = field(default=30.0, metadata={"help": "smallest score in the group, in the signal's unit"})

    def __call__(self, scores: Scores) -> list[Partition]:
        labels = np.where(scores.values >= self.at, 0, -1).astype(np.int64)
        return [Partition(1, labels, f"score >= {self.at:g}", {"highest": float(scores.values.max())})]


@hookimpl
def harness_partitioners() -> list[type[Threshold]]:
    return [Threshold]
