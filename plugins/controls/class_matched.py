"""Controls with the candidate's size and label classes."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import ClassVar

from harness import ControlSets, HarnessError, Labels, UnitSpace, from_pools, hookimpl, others

UNKNOWN = "unknown"


@dataclass(frozen=True)
class ClassMatched:
    """Random groups with as many units of each label class as the candidate has, and none of its own.

    A group that beats them is more than a handful of induction heads: these very ones matter, or matter together. Units
    without a label are a class of their own. Where a class has too few units left, it is matched together with the
    classes that the candidate has no unit of; where those hold too few distinct choices (or too few units), all classes
    are matched together. What was missing is reported per class in ``shortfall``. Layers are not matched.

    Input: candidate (positions), units, labels. Output: up to ``n`` distinct groups of the candidate's size; all there
    are where there are fewer; none where the rest of the model is smaller than the candidate.

    Errors: no control asked for; no unit has a label.
    Source: this project's own.
    """

    name: ClassVar[str] = "class_matched"
    n: int = field(default=99, metadata={"help": "control groups; p cannot go below 1 / (n + 1)"})
    seed: int = field(default=0, metadata={"help": "of the draw"})

    def __post_init__(self) -> None:
        if self.n < 1:
            raise HarnessError(f"controls.n={self.n}: at least one control is needed.")

    def __call__(self, candidate: tuple[int, ...], units: UnitSpace, labels: Labels) -> ControlSets:
        if not len(labels.known):
            raise HarnessError(
                "controls=class_matched: no unit has a label, so there is no class to match.",
                "Give labels (labels=survey, or labels=file), or match something else: controls=layer_matched.",
            )
        rest = others(candidate, units)
        wanted = Counter(labels.classes[unit] or UNKNOWN for unit in candidate)
        left = Counter(labels.classes[unit] or UNKNOWN for unit in rest)
        shortfall = {label: count - left[label] for label, count in sorted(wanted.items()) if count > left[label]}
        pools = [
            [unit for unit in range(len(units)) if (labels.classes[unit] or UNKNOWN) in together]
            for together in self._together(wanted, left, set(shortfall))
        ]
        return from_pools(candidate, pools, units, self.n, self.seed, shortfall)

    def _together(self, wanted: Counter[str], left: Counter[str], short: set[str]) -> list[set[str]]:
        """Classes that are matched as one: each by itself, but for short ones."""
        if not short:
            return [{label} for label in sorted(wanted)]
        joined = short | (left.keys() - wanted.keys())
        if math.comb(sum(left[label] for label in joined), sum(wanted[label] for label in joined)) < self.n:
            return [{*wanted, *left}]
        return [joined, *({label} for label in sorted(wanted.keys() - joined))]


@hookimpl
def harness_controls() -> list[type[ClassMatched]]:
    return [ClassMatched]
