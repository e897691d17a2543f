"""Every group of moderate size."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from annotated_types import Ge
from harness_plugins.selectors._sizes import LARGEST, SMALLEST, require_sizes

from harness import Candidate, Partition, Selector, hookimpl


@dataclass(frozen=True)
class SizeRange(Selector):
    r"""All groups of ``min_size`` to ``max_size`` units; each gets a closure test.

    .. math:: \{g : \text{min\_size} \le |g| \le \text{max\_size}\}, \qquad \text{score}(g) = |g|

    Input: partition. Output: every such group, largest first; the lower label breaks ties. The list is empty if no
    group qualifies. The trap: every candidate is a separate test with its own p-value, and boards count all of them.

    Errors: ``min_size`` above ``max_size``.
    Source: sizes from the closure paper, section 3.7, which does not test all such groups.
    """

    name: ClassVar[str] = "size_range"
    min_size: Annotated[int, Ge(1)] = field(default=2, metadata={"help": SMALLEST})
    max_size: int = field(default=12, metadata={"help": LARGEST})

    def __post_init__(self) -> None:
        require_sizes(self.min_size, self.max_size)

    def __call__(self, partition: Partition) -> list[Candidate]:
        qualified = [members for members in partition.groups() if self.min_size <= len(members) <= self.max_size]
        # a stable sort: lower label first on a tie
        largest_first = sorted(qualified, key=lambda members: -len(members))
        return [Candidate(members, float(len(members))) for members in largest_first]


@hookimpl
def harness_selectors() -> list[type[SizeRange]]:
    return [SizeRange]
