"""Groups of about a given size, on average."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from annotated_types import Ge, Lt

from harness import Chooser, Partition, hookimpl


@dataclass(frozen=True)
class GroupSize(Chooser):
    r"""The partition whose mean group size is nearest to a given number of units.

    .. math:: q_p = -\bigl|\log_2 (n_p / (k_p \cdot \text{units}))\bigr|

    :math:`n_p` units are in :math:`k_p` groups. Known circuits have few heads whatever the size of the model, while the
    partition with the highest modularity of 270 heads has groups of 10 to 90 (Fortunato & Barthelemy's resolution
    limit). The members of the groups and their affinity do not matter.

    Input: partitions. Output: 0 where the mean size is ``units``, below 0 otherwise: -1 where groups are twice or half
    as large. None if there is no group, one group of all units, or only groups of one unit.
    Source: Fortunato & Barthelemy 2007, section 3.
    """

    name: ClassVar[str] = "group_size"
    units: Annotated[float, Ge(1), Lt(math.inf)] = field(default=4.0, metadata={"help": "mean units per group"})

    def __call__(self, partitions: Sequence[Partition]) -> list[float | None]:
        return [None if partition.trivial else self._nearness(partition) for partition in partitions]

    def _nearness(self, partition: Partition) -> float:
        groups = partition.groups()
        mean = sum(len(group) for group in groups) / len(groups)
        return -abs(math.log2(mean / self.units))


@hookimpl
def harness_choosers() -> list[type[GroupSize]]:
    return [GroupSize]
