"""All groups."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from harness import Candidate, Partition, Selector, hookimpl


@dataclass(frozen=True)
class EveryGroup(Selector):
    r"""Every group of the partition, whatever its size.

    .. math:: \{g : |g| \ge 1\}

    Input: partition. Output: its groups by ascending label, without a score. The trap: a group of more than half of all
    units is tested without controls, because there are too few other units to draw from.
    Source: none; an exhaustive rule.
    """

    name: ClassVar[str] = "every_group"

    def __call__(self, partition: Partition) -> list[Candidate]:
        return [Candidate(members) for members in partition.groups()]


@hookimpl
def harness_selectors() -> list[type[EveryGroup]]:
    return [EveryGroup]
