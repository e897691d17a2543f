"""Groups that are found again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from harness import HarnessError, Partition, hookimpl


@dataclass(frozen=True)
class MostStable:
    r"""The partition that is found again most nearly when observations are drawn anew.

    .. math:: q_p = \operatorname{mean}_r \operatorname{ARI}(\text{partition}_p, \text{partition}_p^{(r)})

    over the cell's ``reruns`` r: bootstrap resamples of the observations, in other orders of the units and from other
    seeds. Where an affinity was not made from observations, only orders and seeds vary: then every deterministic
    partitioner gets 1 throughout, and the fewest groups are taken.

    Input: partitions with their stability. Output: adjusted Rand index per partition, in [-0.5, 1]; nothing where it
    could not be found again.

    Errors: a cell without reruns.
    Source: Ben-Hur, Elisseeff & Guyon 2002 (there with subsamples and other similarities).
    """

    name: ClassVar[str] = "stability"

    def __call__(self, partitions: Sequence[Partition]) -> list[float | None]:
        measured = [partition.stability for partition in partitions]
        if not any(measured):
            raise HarnessError("chooser stability needs reruns: none were made.", "Say how many: reruns=5")
        return [None if of is None else of.seeds if of.resamples is None else of.resamples for of in measured]


@hookimpl
def harness_choosers() -> list[type[MostStable]]:
    return [MostStable]
