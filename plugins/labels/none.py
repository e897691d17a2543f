"""No labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from harness import Labels, UnitSpace, hookimpl


@dataclass(frozen=True)
class Nothing:
    """Nothing is known about any unit.

    For subjects and batches that no survey fits: groups are found and tested, agreement and purity stay empty, and
    methods that look at labels (paper_score) have nothing to go by.

    Input: units. Output: no class for any unit, no selectivity.
    Source: none; it is the absence of one.
    """

    name: ClassVar[str] = "none"

    def __call__(self, units: UnitSpace) -> Labels:
        return Labels((None,) * len(units), units)


@hookimpl
def harness_labels() -> list[type[Nothing]]:
    return [Nothing]
