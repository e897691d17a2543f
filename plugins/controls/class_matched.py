"""Controls with the candidate's size and label classes."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from annotated_types import Ge

from harness import Controls, ControlSets, HarnessError, Labels, UnitSpace, from_pools, hookimpl, others

UNKNOWN = "unknown"


@dataclass(frozen=True)
class ClassMatched(Controls):
    """Random groups with as many units of each label class as the candidate, and none of its units.

    A candidate that beats them is more than a set of, say, induction heads: its particular units matter, or their
    combination. Units without a label are a class of their own. A class with too few units left is pooled with the
    classes that do not occur in the candidate. If that pool has fewer than ``n`` choices or too few units, all classes
    are pooled. ``shortfall`` gives the number of missing units per class. Layers are not matched.

    Input: candidate (positions), units, labels. Output: up to ``n`` distinct groups of the candidate's size; fewer if
    there are not that many; none if the rest of the model is smaller than the candidate.

    Errors: no unit has a label.
    Source: this project.
    """

    name: ClassVar[str] = "class_matched"
    n: Annotated[int, Ge(1)] = field(default=99, metadata={"help": "control groups; the smallest p is 1 / (n + 1)"})
    seed: int = field(default=0, metadata={"help": "seed of the draw"})

    def __call__(self, candidate: tuple[int, ...], units: UnitSpace, labels: Labels) -> ControlSets:
        if not len(labels.known):
            raise HarnessError(
                "controls=class_matched: no unit has a label, so there is no class to match.",
                "Use labels (labels=survey or labels=file), or other controls (controls=layer_matched).",
            )
        rest = others(candidate, units)
        wanted = Counter(labels.classes[unit] or UNKNOWN for unit in candidate)
        left = Counter(labels.classes[unit] or UNKNOWN for unit in rest)
        shortfall = {label: count - left[label] for label, count in sorted(wanted.items()) if count > left[label]}
        pools = [
            [unit for unit in range(len(units)) if (labels.classes[unit] or UNKNOWN) in pooled]
            for pooled in self._pools(wanted, left, set(shortfall))
        ]
        return from_pools(candidate, pools, units, self.n, self.seed, shortfall)

    def _pools(self, wanted: Counter[str], left: Counter[str], short: set[str]) -> list[set[str]]:
        """Sets of classes that are matched as one: one for each class, but the short ones are pooled."""
        if not short:
            return [{label} for label in sorted(wanted)]
        joined = short | (left.keys() - wanted.keys())
        if math.comb(sum(left[label] for label in joined), sum(wanted[label] for label in joined)) < self.n:
            return [{*wanted, *left}]
        return [joined, *({label} for label in sorted(wanted.keys() - joined))]


@hookimpl
def harness_controls() -> list[type[ClassMatched]]:
    return [ClassMatched]
