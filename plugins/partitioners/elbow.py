"""The units before the elbow of the sorted scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from harness import HarnessError, Partition, Partitioner, Scores, hookimpl
from harness.data.ranking import degenerate, elbow


@dataclass(frozen=True)
class Elbow(Partitioner):
    r"""The units whose scores lie above the elbow of the sorted curve, as one group.

    .. math:: \hat m = \arg\max_i \Bigl[x_0 + \tfrac{i}{n - 1} (x_{n-1} - x_0) - x_i\Bigr],
              \qquad x_0 \ge x_1 \ge \dots \ge x_{n-1}

    Scores are sorted, highest first. The elbow is the point furthest below the chord between the ends of the curve; the
    vertical and the perpendicular distance are largest at the same point. The elbow is the first point of the flat
    part, so the group is the :math:`\hat m` units before it: 4 units at 1 and 20 at 0 give a group of 4. Scores in the
    group are strictly higher than all others, so there are no ties. If distances are equal, the smaller group is taken.

    Input: one score per unit [n_units], of any sign. Output: one partition: group 0; all other units are in no group.
    ``diagnostics.score`` is the score at the elbow; every score in the group is higher. ``diagnostics.degenerate`` says
    where the group is a single unit, or more than half of all units: elbows of curves that are nearly straight, or fall
    first slowly and then fast, are unstable.

    Errors: no elbow (fewer than three units, equal scores, or a curve that is never below its chord).
    Source: Satopaa et al. 2011 (kneedle, without smoothing); probe-circuits paper (elbow of its PR integrals).
    """

    name: ClassVar[str] = "elbow"

    def __call__(self, scores: Scores) -> list[Partition]:
        values = scores.values
        if (values == values[0]).all():
            raise HarnessError(
                "partitioner elbow: all scores are equal, so there is no elbow.",
                "Choose another signal, or more examples.",
            )
        size = elbow(values)
        if size == 0:
            raise HarnessError(
                "partitioner elbow: the sorted scores have no elbow; they fall evenly, or first slowly and then fast.",
                "Choose the number of units: partitioner=top_k 'partitioner.sizes=[8]'",
            )
        at = float(np.sort(values)[::-1][size])
        labels = np.where(values > at, 0, -1).astype(np.int64)
        why = degenerate(size, len(values))
        return [Partition(1, labels, f"size = {size}", {"score": at, **({"degenerate": why} if why else {})})]


@hookimpl
def harness_partitioners() -> list[type[Elbow]]:
    return [Elbow]
