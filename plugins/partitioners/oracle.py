"""The labels themselves as groups: an upper bound for methods that do not see them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np

from harness import UNCLASSIFIED, HarnessError, Labels, Partition, Partitioner, hookimpl


@dataclass(frozen=True)
class Oracle(Partitioner):
    r"""One group per class of the truth, where the subject knows it; otherwise of the labels.

    .. math:: g_i = \operatorname{class}(i)

    An upper bound of what methods can propose that do not see the classes. Its groups are tested like any others. Where
    it is known which classes are circuits, units of the other classes are in no group.

    Input: labels, truth. Output: one partition with the groups in the order of ``diagnostics.classes`` (by name); ``k``
    is the number of classes. Units without a label are in no group. ``unclassified`` sets what happens to units that
    were examined and fit no class: no group (they are not a circuit), or one group, as in the closure paper.

    Errors: no unit has a class.
    Source: none; an upper bound.
    """

    name: ClassVar[str] = "oracle"
    unclassified: Literal["none", "group"] = field(
        default="none", metadata={"help": "units that fit no class: in no group, or in one group of their own"}
    )

    def __call__(self, labels: Labels, truth: Labels | None) -> list[Partition]:
        labels = truth or labels
        left_out = {None, UNCLASSIFIED} if self.unclassified == "none" else {None}
        found = {c for c in labels.classes if c is not None} - left_out
        classes = sorted(found & labels.circuits or found)
        if not classes:
            raise HarnessError(
                "partitioner oracle: no unit has a class, so there are no groups.",
                "Use labels from the model (labels=survey) or from a file (labels=file), or another partitioner.",
            )
        number = {name: i for i, name in enumerate(classes)}
        groups = np.array([-1 if c is None else number.get(c, -1) for c in labels.classes], dtype=np.int64)
        return [Partition(len(classes), groups, diagnostics={"classes": classes})]


@hookimpl
def harness_partitioners() -> list[type[Oracle]]:
    return [Oracle]
