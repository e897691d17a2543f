"""The closure paper's rule for choosing a candidate."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from annotated_types import Ge
from harness_plugins.selectors._sizes import COUNT, LARGEST, SMALLEST, require_sizes

from harness import Affinity, Candidate, Labels, Partition, Selector, hookimpl, isolation, purity


@dataclass(frozen=True)
class PaperScore(Selector):
    r"""The group that is pure, isolated and large enough.

    .. math:: \text{score}(g) = \text{purity}(g) \cdot \text{isolation}(g) \cdot \frac{\min(|g|, m)}{m},
              \qquad m = \text{max\_size}

    Purity is the share of the group's labelled units in their most common class (``unclassified`` is a class).
    Isolation is mean |affinity| inside the group over mean |affinity| to the outside. Groups of ``min_size`` to
    ``max_size`` units qualify if both are defined.

    Input: partition, affinity, labels. Output: the ``count`` best groups, best first; the lower label breaks ties. The
    list is empty if no group qualifies.

    Errors: ``min_size`` above ``max_size``.
    Source: closure paper, section 3.7 and its selection scripts.
    """

    name: ClassVar[str] = "paper_score"
    min_size: Annotated[int, Ge(1)] = field(default=2, metadata={"help": SMALLEST})
    max_size: int = field(default=12, metadata={"help": LARGEST})
    count: Annotated[int, Ge(1)] = field(default=3, metadata={"help": COUNT})

    def __post_init__(self) -> None:
        require_sizes(self.min_size, self.max_size)

    def __call__(self, partition: Partition, affinity: Affinity, labels: Labels) -> list[Candidate]:
        scored = []
        for members in partition.groups():
            if not self.min_size <= len(members) <= self.max_size:
                continue
            share, ratio = purity(members, labels), isolation(members, affinity.matrix)
            if share is not None and ratio is not None:
                score = share * ratio * min(len(members), self.max_size) / self.max_size
                scored.append(Candidate(members, score, share, ratio))
        # a stable sort: lower label first on a tie
        best = sorted(scored, key=lambda candidate: -(candidate.score or 0.0))
        return best[: self.count]


@hookimpl
def harness_selectors() -> list[type[PaperScore]]:
    return [PaperScore]
