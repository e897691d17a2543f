"""The partition that agrees best with the labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from harness import Agreement, Chooser, HarnessError, Labels, Partition, hookimpl


@dataclass(frozen=True)
class ByLabels(Chooser):
    r"""The partition that agrees best with the labels; the closure paper chooses its number of groups this way.

    .. math:: \hat k = \arg\max_k \operatorname{ARI}(\text{partition}_k, \text{labels})

    The trap: it uses the labels, so agreement at the chosen partition is the best of several values and biased upwards.
    Boards mark such rows.

    Input: partitions, labels. Output: adjusted Rand index per partition, in [-0.5, 1]. A single partition needs no
    choice, so its index may be None.

    Errors: several partitions, and labels without two units of one class and a third of another.
    Source: closure paper, section 3.6 (k with the best ARI).
    """

    name: ClassVar[str] = "labels"

    def __call__(self, partitions: Sequence[Partition], labels: Labels) -> list[float | None]:
        if len(partitions) > 1 and not labels.divide:
            known = [labels.classes[unit] for unit in labels.known]
            raise HarnessError(
                f"chooser labels: {len(known)} of {len(labels.classes)} units have a label, of {len(set(known))} "
                "classes; agreement needs two units of one class and a third of another.",
                "Use other labels, or a chooser that needs none: chooser=stability",
            )
        agreements = [Agreement.of(partition, labels) for partition in partitions]
        return [None if agreement is None else agreement.ari for agreement in agreements]


@hookimpl
def harness_choosers() -> list[type[ByLabels]]:
    return [ByLabels]
