"""A number of groups told beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from harness import HarnessError, Partition, hookimpl


@dataclass(frozen=True)
class Fixed:
    r"""The partition with a number of groups that is told beforehand.

    .. math:: q_p = 1 \text{ where } k_p = k

    Partitions that were asked for with ``k`` groups count; where there is none, those in which ``k`` groups were found.

    Input: partitions. Output: 1 for such partitions, nothing for all others.

    Errors: no such partition (one that puts all units in one group is none); ``k`` below 1.
    Source: closure paper, its selection scripts (candidates on the synthetic batch are taken at a told k: 10, 6).
    """

    name: ClassVar[str] = "fixed"
    k: int = field(default=8, metadata={"help": "number of groups"})

    def __post_init__(self) -> None:
        if self.k < 1:
            raise HarnessError(f"chooser.k={self.k}: a partition has at least one group.", "Example: chooser.k=8")

    def __call__(self, partitions: Sequence[Partition]) -> list[float | None]:
        able = [partition for partition in partitions if not partition.trivial]
        good = [p for p in able if p.k == self.k] or [p for p in able if len(p.groups()) == self.k]
        if not good:
            ks = sorted({partition.k for partition in able})
            there = f", or take what there is: chooser.k={ks[0]}" if ks else ""
            raise HarnessError(
                f"chooser.k={self.k} was not partitioned (partitions: {ks}).",
                f"Add it: 'partitioner.k=[{self.k}]'{there}",
            )
        return [1.0 if any(partition is one for one in good) else None for partition in partitions]


@hookimpl
def harness_choosers() -> list[type[Fixed]]:
    return [Fixed]
