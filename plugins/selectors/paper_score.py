"""The closure paper's choice of a candidate."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from harness import Affinity, Candidate, HarnessError, Labels, Partition, hookimpl, isolation, purity


@dataclass(frozen=True)
class PaperScore:
    r"""The group that is pure, isolated and large enough.

    .. math:: \text{score}(g) = \text{purity}(g) \cdot \text{isolation}(g) \cdot \frac{\min(|g|, m)}{m},
              \qquad m = \text{max\_size}

    Purity: share of the group's labelled units in their most common class (``unclassified`` is a class). Isolation:
    mean |affinity| inside over mean |affinity| to the outside. Groups of ``min_size`` to ``max_size`` units compete.

    Input: partition, affinity, labels. Output: the ``count`` best candidates, best first; none where no group
    qualifies, or purity or isolation is not defined.

    Errors: sizes out of order, no candidate asked for.
    Source: closure paper, section 3.7 and its selection scripts.
    """

    name: ClassVar[str] = "paper_score"
    min_size: int = field(default=4, metadata={"help": "smallest group that may be chosen"})
    max_size: int = field(default=12, metadata={"help": "largest group that may be chosen"})
    count: int = field(default=1, metadata={"help": "how many candidates are tested"})

    def __post_init__(self) -> None:
        if not 1 <= self.min_size <= self.max_size:
            raise HarnessError(
                f"selector.min_size={self.min_size}, selector.max_size={self.max_size}: need 1 <= min_size <= max_size."
            )
        if self.count < 1:
            raise HarnessError(f"selector.count={self.count}: at least one candidate has to be chosen.")

    def __call__(self, partition: Partition, affinity: Affinity, labels: Labels) -> list[Candidate]:
        scored = []
        for members in partition.groups():
            if not self.min_size <= len(members) <= self.max_size:
                continue
            pure, apart = purity(members, labels), isolation(members, affinity.matrix)
            if pure is not None and apart is not None:
                score = pure * apart * min(len(members), self.max_size) / self.max_size
                scored.append(Candidate(members, score, pure, apart))
        best = sorted(scored, key=lambda candidate: -(candidate.score or 0.0))  # stable: lower label first on a tie
        return best[: self.count]


@hookimpl
def harness_selectors() -> list[type[PaperScore]]:
    return [PaperScore]
