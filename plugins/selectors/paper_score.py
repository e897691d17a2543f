"""The closure paper's choice of a candidate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from harness.errors import HarnessError
from harness.groups import Affinity, Agreement, Candidate, Labels, Partition, isolation, purity
from harness.hookspecs import hookimpl
from harness.stages import Selection


@dataclass(frozen=True)
class PaperScore:
    r"""The group that is pure, isolated and large enough.

    .. math:: \text{score}(g) = \text{purity}(g) \cdot \text{isolation}(g) \cdot \frac{\min(|g|, m)}{m},
              \qquad m = \text{max\_size}

    Purity: share of the group's labelled units in their most common class (``unclassified`` is a class). Isolation:
    mean |affinity| inside over mean |affinity| to the outside. Groups of ``min_size`` to ``max_size`` units compete,
    within the partition of ``k`` groups; without ``k`` it is the partition that agrees best with the labels (ARI; the
    smaller ``k`` on a tie). That choice uses labels: agreement at the chosen k is then the best of several, not a fair
    score.

    Input: partitions, affinity, labels. Output: the ``count`` best candidates, best first; none where no group
    qualifies, or purity or isolation is not defined.

    Errors: a ``k`` that was not partitioned; sizes out of order.
    Source: closure paper, section 3.7 and its selection scripts.
    """

    name: ClassVar[str] = "paper_score"
    k: int | None = field(default=None, metadata={"help": "take groups from this partition; none: best agreement"})
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

    def __call__(self, partitions: Sequence[Partition], affinity: Affinity, labels: Labels) -> Selection:
        partition = self._partition(partitions, labels)
        scored = []
        for members in partition.groups():
            pure, apart = purity(members, labels), isolation(members, affinity.matrix)
            if self.min_size <= len(members) <= self.max_size and pure is not None and apart is not None:
                score = pure * apart * min(len(members), self.max_size) / self.max_size
                scored.append(Candidate(members, partition.k, pure, apart, score))
        best = sorted(scored, key=lambda candidate: -(candidate.score or 0.0))  # stable: lower label first on a tie
        return Selection(tuple(best[: self.count]), partition.k)

    def _partition(self, partitions: Sequence[Partition], labels: Labels) -> Partition:
        if self.k is not None:
            for partition in partitions:
                if partition.k == self.k:
                    return partition
            raise HarnessError(
                f"selector.k={self.k} was not partitioned (partitions: {[p.k for p in partitions]}).",
                f"Add it: 'partitioner.k=[{self.k}]'",
            )

        def ari(partition: Partition) -> float:
            agreement = Agreement.of(partition, labels)
            return agreement.ari if agreement else 0.0

        return max(sorted(partitions, key=lambda partition: partition.k), key=ari)


@hookimpl
def harness_selectors() -> list[type[PaperScore]]:
    return [PaperScore]
