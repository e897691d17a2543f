"""Every group of a middling size."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from harness import Candidate, HarnessError, Partition, hookimpl


@dataclass(frozen=True)
class SizeRange:
    r"""All groups of ``min_size`` to ``max_size`` units, each put to the closure test.

    .. math:: \{g : \text{min\_size} \le |g| \le \text{max\_size}\}, \qquad \text{score}(g) = |g|

    Input: partition. Output: every such group, larger first, of equal ones the lower label first; none where no group
    qualifies. Every candidate is a test of its own: boards count them all, and their p-values are many.

    Errors: sizes out of order.
    Source: the sizes are the closure paper's, section 3.7; that all such groups are tested is not.
    """

    name: ClassVar[str] = "size_range"
    min_size: int = field(default=4, metadata={"help": "smallest group that is tested"})
    max_size: int = field(default=12, metadata={"help": "largest group that is tested"})

    def __post_init__(self) -> None:
        if not 1 <= self.min_size <= self.max_size:
            raise HarnessError(
                f"selector.min_size={self.min_size}, selector.max_size={self.max_size}: need 1 <= min_size <= max_size."
            )

    def __call__(self, partition: Partition) -> list[Candidate]:
        fitting = [members for members in partition.groups() if self.min_size <= len(members) <= self.max_size]
        larger_first = sorted(fitting, key=lambda members: -len(members))  # stable: lower label first on a tie
        return [Candidate(members, float(len(members))) for members in larger_first]


@hookimpl
def harness_selectors() -> list[type[SizeRange]]:
    return [SizeRange]
