"""How well a ranking of units agrees with their classes, and where its scores have an elbow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from harness.data.grouping import UNCLASSIFIED, Labels
from harness.data.recording import Scores
from harness.data.tokens import FIRST


def elbow(scores: Float[np.ndarray, " units"]) -> int:
    r"""How many scores lie before the elbow of their sorted curve; 0 where it has none.

    .. math:: \hat m = \arg\max_i \Bigl[x_0 + \tfrac{i}{n - 1} (x_{n-1} - x_0) - x_i\Bigr],
              \qquad x_0 \ge x_1 \ge \dots \ge x_{n-1}

    The elbow is the point furthest below the chord between the ends of the curve; the vertical and the perpendicular
    distance are largest at the same point. If distances are equal, the first point is taken. There is no elbow where
    scores are equal, or the curve is never below its chord.
    Source: Satopaa et al. 2011 (kneedle, without smoothing); probe-circuits paper (elbow of its PR integrals).
    """
    curve = np.sort(scores)[::-1]
    fall = curve[0] - curve[-1]
    if fall == 0:
        return 0
    below = np.linspace(1.0, 0.0, len(curve)) - (curve - curve[-1]) / fall
    return int(np.argmax(below.round(9)))  # so that rounding errors make no elbow in a straight line


def degenerate(size: int, units: int) -> str:
    """Why an elbow selects nothing useful: none, one unit, or most units. Empty where it does."""
    if size == 0:
        return "no elbow: the scores are equal, fall evenly, or first slowly and then fast"
    if size == 1:
        return "one unit lies before the elbow"
    return f"{size} of {units} units lie before the elbow" if 2 * size > units else ""


@dataclass(frozen=True)
class Ranking:
    """Units in the order of their scores, highest first; the order of layers and indices breaks ties.

    ``order`` [units]: positions in the unit space. ``elbow``: how many lie before the elbow of the scores (0: none).
    Classes are those of the labels. A unit counts as classified if it has a class other than unclassified.
    """

    order: Int[np.ndarray, " units"]
    elbow: int
    labels: Labels

    @classmethod
    def of(cls, scores: Scores, labels: Labels) -> Ranking:
        """The ranking by these scores."""
        canonical = scores.units.canonical
        order = canonical[np.argsort(-scores.values[canonical], kind="stable")]
        return cls(order, elbow(scores.values), labels)

    @property
    def names(self) -> list[str]:
        """The labels of the units, in order."""
        return self.labels.units.names(self.order)

    def classes(self, k: int) -> Counter[str]:
        """How many of the first k units have each class."""
        return Counter(self.labels.classes[i] or UNCLASSIFIED for i in self.order[:k])

    def precision(self, k: int) -> float:
        """The share of the first k units that are classified. Source: probe-circuits paper (P@k)."""
        return self._classified(k) / k

    def precision_not_first(self, k: int) -> float:
        """The share of the first k units that have a class other than first-token."""
        return (self._classified(k) - self.classes(k)[FIRST]) / k

    def recall(self, k: int) -> float | None:
        """The share of all classified units that are among the first k. None: no unit is classified."""
        every = self._classified(len(self.order))
        return self._classified(k) / every if every else None

    def classified_fraction(self, k: int) -> float:
        """The classified units among the first k, as a share of all units. Source: probe-circuits paper."""
        return self._classified(k) / len(self.order)

    def _classified(self, k: int) -> int:
        return k - self.classes(k)[UNCLASSIFIED]


def class_map(labels: Labels) -> Mapping[str, Counter[int]]:
    """How many units of each class there are at every depth, by class; the most common class first."""
    found: dict[str, Counter[int]] = {}
    for name, depth in zip(labels.classes, labels.units.depth_of.tolist(), strict=True):
        found.setdefault(name or UNCLASSIFIED, Counter())[depth] += 1
    return dict(sorted(found.items(), key=lambda item: -item[1].total()))
