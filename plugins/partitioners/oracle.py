"""The labels themselves: what no method that does not see them can beat."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np

from harness import UNCLASSIFIED, HarnessError, Labels, Partition, hookimpl


@dataclass(frozen=True)
class Oracle:
    r"""One group per class of the labels.

    .. math:: g_i = \operatorname{class}(i)

    A ceiling: its agreement with the labels is the best there can be, and its groups are tested as any others are.

    Input: labels. Output: one partition, ``k`` the number of classes, groups in the order of ``diagnostics.classes``
    (by name). Units of which nothing is known are in no group; ``unclassified`` says what becomes of those that were
    looked at and fit no class: in no group either (they are no circuit), or a group, as the closure paper counts them.

    Errors: no unit has a class.
    Source: none; a ceiling.
    """

    name: ClassVar[str] = "oracle"
    unclassified: Literal["none", "group"] = field(
        default="none", metadata={"help": "units that fit no class: in no group, or a group of their own"}
    )

    def __call__(self, labels: Labels) -> list[Partition]:
        left_out = {None, UNCLASSIFIED} if self.unclassified == "none" else {None}
        classes = sorted({c for c in labels.classes if c is not None} - left_out)
        if not classes:
            raise HarnessError(
                "partitioner oracle: no unit has a class, so there are no groups to copy.",
                "Choose labels that look at the model (labels=survey), a file (labels=file), or another partitioner.",
            )
        number = {name: i for i, name in enumerate(classes)}
        groups = np.array([number.get(c, -1) if c is not None else -1 for c in labels.classes], dtype=np.int64)
        return [Partition(len(classes), groups, diagnostics={"classes": classes})]


@hookimpl
def harness_partitioners() -> list[type[Oracle]]:
    return [Oracle]
