"""The partition that agrees best with the labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from harness import Agreement, Labels, Partition, hookimpl


@dataclass(frozen=True)
class ByLabels:
    r"""The partition that agrees best with the labels, as the closure paper chooses its number of groups.

    .. math:: \hat k = \arg\max_k \operatorname{ARI}(\text{partition}_k, \text{labels})

    It uses the labels: agreement at the chosen partition is then the best of several, not a fair score, and boards mark
    it so.

    Input: partitions, labels. Output: adjusted Rand index per partition, in [-0.5, 1]; none where no unit has a label.
    Source: closure paper, section 3.6 (k with the best ARI).
    """

    name: ClassVar[str] = "labels"

    def __call__(self, partitions: Sequence[Partition], labels: Labels) -> list[float | None]:
        agreement = [Agreement.of(partition, labels) for partition in partitions]
        return [None if found is None else found.ari for found in agreement]


@hookimpl
def harness_choosers() -> list[type[ByLabels]]:
    return [ByLabels]
