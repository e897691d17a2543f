"""No binarizer: activity is used directly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from harness import Activity, Binarizer, hookimpl


@dataclass(frozen=True)
class NoBinarizer(Binarizer):
    """Returns activity unchanged, for affinities that accept real numbers.

    These are the affinities with the argument ``observations``: ``pearson``, ``pearson_knn``, ``partial_correlation``,
    ``cosine``. Affinities with the argument ``spins`` (``ising``, ``mutual_information``) need another binarizer.

    Input: activity [observations, units]. Output: the same activity.
    Source: none; the closure paper compares raw activity with spins in section 8.3.
    """

    name: ClassVar[str] = "none"

    def __call__(self, activity: Activity) -> Activity:
        return activity


@hookimpl
def harness_binarizers() -> list[type[NoBinarizer]]:
    return [NoBinarizer]
