"""The groups with few ties to other units."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Ge
from harness_plugins.selectors._sizes import COUNT, LARGEST, SMALLEST, require_sizes

from harness import Affinity, Candidate, Partition, Selector, hookimpl, isolation


@dataclass(frozen=True)
class MostIsolated(Selector):
    r"""The groups with the most affinity inside, relative to their affinity to the outside.

    .. math:: \text{score}(g) = \frac{\operatorname{mean}_{i \ne j \in g} |A_{ij}|}
              {\operatorname{mean}_{i \in g,\, j \notin g} |A_{ij}|}

    Groups of ``min_size`` to ``max_size`` units qualify if they have affinity inside (small groups would win by
    chance). A group without any affinity to the outside comes first, without a score, because its ratio is not finite.

    Input: partition, affinity. Output: the ``count`` most isolated groups, best first; the lower label breaks ties. The
    list is empty if no group qualifies.

    Errors: ``min_size`` above ``max_size``.
    Source: closure paper, section 3.7 (isolation and sizes 4 to 12), without the labels that its score uses.
    """

    name: ClassVar[str] = "most_isolated"
    count: Annotated[int, Ge(1)] = field(default=3, metadata={"help": COUNT})
    min_size: Annotated[int, Ge(2)] = field(default=2, metadata={"help": f"{SMALLEST}; isolation needs 2 units"})
    max_size: int = field(default=12, metadata={"help": LARGEST})

    def __post_init__(self) -> None:
        require_sizes(self.min_size, self.max_size)

    def __call__(self, partition: Partition, affinity: Affinity) -> list[Candidate]:
        candidates = []
        for members in partition.groups():
            fits = self.min_size <= len(members) <= self.max_size and len(members) < len(affinity.units)
            if fits and abs(affinity.matrix[np.ix_(members, members)]).max() > 0:
                candidates.append(Candidate(members, isolation(members, affinity.matrix)))
        # a stable sort: lower label first on a tie
        best = sorted(candidates, key=lambda candidate: -(np.inf if candidate.score is None else candidate.score))
        return best[: self.count]


@hookimpl
def harness_selectors() -> list[type[MostIsolated]]:
    return [MostIsolated]
