"""The largest groups."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from annotated_types import Ge
from harness_plugins.selectors._sizes import COUNT, LARGEST, SMALLEST, require_sizes

from harness import Candidate, Partition, Selector, hookimpl


@dataclass(frozen=True)
class Largest(Selector):
    r"""The groups with the most units.

    .. math:: \text{score}(g) = |g|

    Groups of ``min_size`` to ``max_size`` units qualify. It uses neither labels nor an affinity.

    Input: partition. Output: the ``count`` largest groups, largest first; the lower label breaks ties. The list is
    empty if no group qualifies.

    Errors: ``min_size`` above ``max_size``.
    Source: none; a simple baseline.
    """

    name: ClassVar[str] = "largest"
    count: Annotated[int, Ge(1)] = field(default=3, metadata={"help": COUNT})
    min_size: Annotated[int, Ge(1)] = field(default=2, metadata={"help": SMALLEST})
    max_size: Annotated[int, Ge(1)] | None = field(default=None, metadata={"help": f"{LARGEST}; null: no limit"})

    def __post_init__(self) -> None:
        require_sizes(self.min_size, self.max_size)

    def __call__(self, partition: Partition) -> list[Candidate]:
        highest = len(partition.labels) if self.max_size is None else self.max_size
        qualified = [members for members in partition.groups() if self.min_size <= len(members) <= highest]
        best = sorted(qualified, key=lambda members: -len(members))  # a stable sort: lower label first on a tie
        return [Candidate(members, float(len(members))) for members in best[: self.count]]


@hookimpl
def harness_selectors() -> list[type[Largest]]:
    return [Largest]
