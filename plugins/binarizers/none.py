"""No binarizer: activity as it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from harness import Activity, hookimpl


@dataclass(frozen=True)
class NoBinarizer:
    """Hands on activity as it is, for affinities that take numbers.

    Those are the ones that ask for ``observations``: ``pearson``, ``pearson_knn``, ``partial_correlation``, ``cosine``.
    Affinities that ask for ``spins`` (``ising``, ``mutual_information``) say so, and what to choose instead.

    Input: activity [observations, units]. Output: the same activity.
    Source: none; the closure paper's comparison of raw activity with spins, section 8.3.
    """

    name: ClassVar[str] = "none"

    def __call__(self, activity: Activity) -> Activity:
        return activity


@hookimpl
def harness_binarizers() -> list[type[NoBinarizer]]:
    return [NoBinarizer]
