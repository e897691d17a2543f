"""The units with the highest scores."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Ge, MinLen

from harness import HarnessError, Partition, Partitioner, Scores, hookimpl


@dataclass(frozen=True)
class TopK(Partitioner):
    r"""The units with the highest scores as one group, one partition per size.

    .. math:: g_m = \{i : \operatorname{rank}(x_i) \le m\}

    Input: one score per unit [n_units], of any sign. Output: one partition per size: group 0; all other units are in no
    group. The order of layers and indices breaks ties. ``diagnostics.tied`` names the units that were left out although
    they score as high as the last unit in the group.

    Errors: sizes that are not below the number of units.
    Source: probe-circuits paper (its circuits are the heads of highest PR spread or integral).
    """

    name: ClassVar[str] = "top_k"
    sizes: Annotated[tuple[Annotated[int, Ge(1)], ...], MinLen(1)] = field(
        default=(4, 8, 12), metadata={"help": "units in the group, one partition each"}
    )

    def __call__(self, scores: Scores) -> list[Partition]:
        n = len(scores.units)
        if n < 2:
            raise HarnessError(f"{n} unit leaves nothing to select from.", "Use a subject with more units.")
        if max(self.sizes) >= n:
            raise HarnessError(
                f"partitioner.sizes={list(self.sizes)}: {max(self.sizes)} of {n} units are not a selection.",
                f"Use sizes below {n}: 'partitioner.sizes=[{','.join(str(m) for m in self.sizes if m < n) or n - 1}]'",
            )
        order = scores.units.canonical
        ranked = order[np.argsort(-scores.values[order], kind="stable")]
        partitions = []
        for size in self.sizes:
            labels = np.full(n, -1, dtype=np.int64)
            labels[ranked[:size]] = 0
            tied = [i for i in ranked[size:] if scores.values[i] == scores.values[ranked[size - 1]]]
            partitions.append(Partition(1, labels, f"size = {size}", {"tied": scores.units.names(tied)}))
        return partitions


@hookimpl
def harness_partitioners() -> list[type[TopK]]:
    return [TopK]
