"""The groups that keep to themselves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from harness import Affinity, Candidate, HarnessError, Partition, hookimpl, isolation


@dataclass(frozen=True)
class MostIsolated:
    r"""The groups with the most affinity inside, relative to their affinity to the outside.

    .. math:: \text{score}(g) = \frac{\operatorname{mean}_{i \ne j \in g} |A_{ij}|}
              {\operatorname{mean}_{i \in g,\, j \notin g} |A_{ij}|}

    Groups of ``min_size`` to ``max_size`` units compete (pairs would win by chance). A group with affinity inside and
    none at all to the outside is the most isolated of all: it comes first, without a score, as its ratio is not finite.
    A group without any affinity inside is no candidate.

    Input: partition, affinity. Output: the ``count`` most isolated, best first, of equal ones the lower label first;
    none where no group qualifies.

    Errors: sizes out of order or below 2, no candidate asked for.
    Source: closure paper, section 3.7 (isolation, and its sizes 4 to 12), without the labels its score looks at.
    """

    name: ClassVar[str] = "most_isolated"
    count: int = field(default=1, metadata={"help": "how many candidates are tested"})
    min_size: int = field(default=4, metadata={"help": "smallest group that may be chosen"})
    max_size: int = field(default=12, metadata={"help": "largest group that may be chosen"})

    def __post_init__(self) -> None:
        if not 2 <= self.min_size <= self.max_size:
            raise HarnessError(
                f"selector.min_size={self.min_size}, selector.max_size={self.max_size}: need 2 <= min_size <= max_size "
                "(one unit has no inside)."
            )
        if self.count < 1:
            raise HarnessError(f"selector.count={self.count}: at least one candidate has to be chosen.")

    def __call__(self, partition: Partition, affinity: Affinity) -> list[Candidate]:
        found = []
        for members in partition.groups():
            fits = self.min_size <= len(members) <= self.max_size and len(members) < len(affinity.units)
            if fits and abs(affinity.matrix[np.ix_(members, members)]).max() > 0:
                found.append(Candidate(members, isolation(members, affinity.matrix)))
        # stable: lower label first on a tie
        best = sorted(found, key=lambda candidate: -(np.inf if candidate.score is None else candidate.score))
        return best[: self.count]


@hookimpl
def harness_selectors() -> list[type[MostIsolated]]:
    return [MostIsolated]
