"""All groups."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from harness import Candidate, Partition, hookimpl


@dataclass(frozen=True)
class EveryGroup:
    r"""Every group of the partition, whatever its size: closure for each.

    .. math:: \{g : |g| \ge 1\}

    Input: partition. Output: its groups by ascending label, without a score; units in no group are in none. A group of
    more than half of all units is tested without controls, as there are not enough other units to draw from.
    Source: exhaustive; there is nothing to choose.
    """

    name: ClassVar[str] = "every_group"

    def __call__(self, partition: Partition) -> list[Candidate]:
        return [Candidate(members) for members in partition.groups()]


@hookimpl
def harness_selectors() -> list[type[EveryGroup]]:
    return [EveryGroup]
