"""No labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from harness import LabelMethod, Labels, UnitSpace, hookimpl


@dataclass(frozen=True)
class Nothing(LabelMethod):
    """No unit has a label.

    For subjects and batches without a suitable survey. Groups are proposed and tested; agreement and purity are empty,
    and methods that need labels (paper_score) find no candidate.

    Input: units. Output: None for every unit, no selectivity.
    Source: none.
    """

    name: ClassVar[str] = "none"

    def __call__(self, units: UnitSpace) -> Labels:
        return Labels((None,) * len(units), units)


@hookimpl
def harness_labels() -> list[type[Nothing]]:
    return [Nothing]
