"""The largest groups."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from harness import Candidate, HarnessError, Partition, hookimpl


@dataclass(frozen=True)
class Largest:
    r"""The groups with the most units.

    .. math:: \text{score}(g) = |g|

    Groups of ``min_size`` to ``max_size`` units compete (without ``max_size``, however large); of equal ones the one of
    the lower label comes first. It needs neither labels nor an affinity.

    Input: partition. Output: the ``count`` largest, largest first; none where no group qualifies.

    Errors: sizes out of order, no candidate asked for.
    Source: a plain rule to hold the others against; none is published for it.
    """

    name: ClassVar[str] = "largest"
    count: int = field(default=1, metadata={"help": "how many candidates are tested"})
    min_size: int = field(default=2, metadata={"help": "smallest group that may be chosen"})
    max_size: int | None = field(default=None, metadata={"help": "largest group that may be chosen; none: any"})

    def __post_init__(self) -> None:
        highest = self.min_size if self.max_size is None else self.max_size
        if not 1 <= self.min_size <= highest:
            raise HarnessError(
                f"selector.min_size={self.min_size}, selector.max_size={self.max_size}: need 1 <= min_size <= max_size."
            )
        if self.count < 1:
            raise HarnessError(f"selector.count={self.count}: at least one candidate has to be chosen.")

    def __call__(self, partition: Partition) -> list[Candidate]:
        highest = len(partition.labels) if self.max_size is None else self.max_size
        fitting = [members for members in partition.groups() if self.min_size <= len(members) <= highest]
        best = sorted(fitting, key=lambda members: -len(members))  # stable: lower label first on a tie
        return [Candidate(members, float(len(members))) for members in best[: self.count]]


@hookimpl
def harness_selectors() -> list[type[Largest]]:
    return [Largest]
