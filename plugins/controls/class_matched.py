"""Groups with the candidate's size and label classes."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from annotated_types import Ge

from harness import Controls, ControlSets, HarnessError, Labels, Profile, UnitSpace, from_pools, hookimpl, others


@dataclass(frozen=True)
class ClassMatched(Controls):
    """Groups with as many units of each label class as the candidate.

    A candidate that beats them is more than a set of, say, induction heads: its particular units matter, or their
    combination. Units without a label are a class of their own. Layers are not matched.

    With ``test=disjoint``, a class with too few other units is pooled with the classes that do not occur in the
    candidate. If that pool has fewer than ``n`` choices or too few units, all classes are pooled. ``shortfall`` gives
    the number of missing units per class.

    Input: units, labels. Output: a profile whose cells are the classes.
    Errors: no unit has a label.
    Source: this project.
    """

    name: ClassVar[str] = "class_matched"
    n: Annotated[int, Ge(1)] | None = field(
        default=None, metadata={"help": "groups to compare with; null: all where there are up to 2000, otherwise 199"}
    )
    seed: int = field(default=0, metadata={"help": "seed of the draw"})

    def __call__(self, labels: Labels) -> Profile:
        if not len(labels.known):
            raise HarnessError(
                "controls=class_matched: no unit has a label, so there is no class to match.",
                "Use labels (labels=survey or labels=file), or other controls (controls=layer_matched).",
            )
        return Profile.by_class(labels)

    def disjoint(self, candidate: tuple[int, ...], units: UnitSpace, labels: Labels, n: int) -> ControlSets:
        profile = self(labels)
        class_of = [profile.names[cell] for cell in profile.cells]
        wanted = Counter(class_of[unit] for unit in candidate)
        left = Counter(class_of[unit] for unit in others(candidate, units))
        shortfall = {label: count - left[label] for label, count in sorted(wanted.items()) if count > left[label]}
        pools = [
            [unit for unit in range(len(units)) if class_of[unit] in pooled]
            for pooled in _pooled(wanted, left, set(shortfall), n)
        ]
        return from_pools(candidate, pools, units, n, self.seed, shortfall)


def _pooled(wanted: Counter[str], left: Counter[str], short: set[str], n: int) -> list[set[str]]:
    """Sets of classes that are matched as one: one for each class, but the short ones are pooled."""
    if not short:
        return [{label} for label in sorted(wanted)]
    joined = short | (left.keys() - wanted.keys())
    if math.comb(sum(left[label] for label in joined), sum(wanted[label] for label in joined)) < n:
        return [{*wanted, *left}]
    return [joined, *({label} for label in sorted(wanted.keys() - joined))]


@hookimpl
def harness_controls() -> list[type[ClassMatched]]:
    return [ClassMatched]
