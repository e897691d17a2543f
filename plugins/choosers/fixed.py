"""A number of groups given in advance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from annotated_types import Ge

from harness import Chooser, HarnessError, Partition, hookimpl


@dataclass(frozen=True)
class Fixed(Chooser):
    r"""The partition with a number of groups that is given in advance.

    .. math:: q_p = 1 \text{ where } k_p = k

    A partition qualifies if it was requested with ``k`` groups. If there is no such partition, one with ``k`` groups
    found qualifies.

    Input: partitions. Output: 1 for partitions that qualify, None for all others.

    Errors: no partition qualifies. Trivial partitions never do (no group, one group of all units, only single units).
    Source: closure paper, its selection scripts (candidates on the synthetic batch are taken at given k: 10, 6).
    """

    name: ClassVar[str] = "fixed"
    k: Annotated[int, Ge(1)] = field(default=8, metadata={"help": "number of groups"})

    def __call__(self, partitions: Sequence[Partition]) -> list[float | None]:
        usable = [partition for partition in partitions if not partition.trivial]
        matching = [p for p in usable if p.k == self.k] or [p for p in usable if len(p.groups()) == self.k]
        if not matching:
            ks = sorted({partition.k for partition in usable})
            units = max((len(partition.labels) for partition in partitions), default=0)
            added = f"If the partitioner has numbers of groups, add it: 'partitioner.k=[{self.k}]'."
            existing = f"Use a number that exists: chooser.k={ks[0]}." if ks else ""
            raise HarnessError(
                f"chooser.k={self.k}: there is no partition with this number of groups (partitions: {ks}).",
                " ".join(filter(None, [added if 2 <= self.k <= units else "", existing])) or "Use another partitioner.",
            )
        return [1.0 if any(partition is match for match in matching) else None for partition in partitions]


@hookimpl
def harness_choosers() -> list[type[Fixed]]:
    return [Fixed]
