"""Groups that reappear in reruns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from harness import Chooser, HarnessError, Partition, hookimpl


@dataclass(frozen=True)
class MostStable(Chooser):
    r"""The partition with the highest stability over reruns on resampled observations.

    .. math:: q_p = \operatorname{mean}_r \operatorname{ARI}(\text{partition}_p, \text{partition}_p^{(r)})

    over the ``reruns`` r of the cell: bootstrap resamples of the observations, with other orders of the units and other
    seeds. If the affinity was not computed from observations, only orders and seeds vary. Every partition of a
    deterministic partitioner then gets 1, and the one with the fewest groups is chosen.

    Input: partitions with their stability. Output: adjusted Rand index per partition, in [-0.5, 1]; None if no rerun
    gave a partition.

    Errors: several partitions, in a cell without reruns.
    Source: Ben-Hur, Elisseeff & Guyon 2002 (there with subsamples and other similarities).
    """

    name: ClassVar[str] = "stability"

    def __call__(self, partitions: Sequence[Partition]) -> list[float | None]:
        stabilities = [partition.stability for partition in partitions]
        if len(partitions) > 1 and not any(stabilities):
            raise HarnessError(
                f"chooser stability needs reruns to choose among {len(partitions)} partitions, and this cell has none.",
                "Set their number (reruns=5), or use a chooser without reruns: chooser=modularity",
            )
        return [None if s is None else s.seeds if s.resamples is None else s.resamples for s in stabilities]


@hookimpl
def harness_choosers() -> list[type[MostStable]]:
    return [MostStable]
