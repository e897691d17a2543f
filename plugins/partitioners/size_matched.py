"""As many units with the highest scores as the labels select."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from harness import HarnessError, Labels, Partition, Partitioner, Scores, hookimpl


@dataclass(frozen=True)
class SizeMatched(Partitioner):
    r"""The units with the highest scores as one group, as large as the set that a threshold on selectivity selects.

    .. math:: g = \{i : \operatorname{rank}(x_i) \le m\}, \qquad m = \#\{i : \text{selectivity}_i(c) \ge \theta\}

    It compares a ranking with the capability screen at equal size: only the size comes from the labels. Ranked by
    ``signal=target_selectivity``, the group is the screen itself. The order of layers and indices breaks ties. A group
    of all units, or of none, is not tested.

    Input: one score per unit [n_units]; labels with selectivities. Output: one partition: group 0; all other units are
    in no group. ``diagnostics.class`` is the class c.

    Errors: labels without selectivities, or without those of the class.
    Source: this project; the screen is that of the probe-circuits paper.
    """

    name: ClassVar[str] = "size_matched"
    at: float = field(default=30.0, metadata={"help": "smallest selectivity that counts, relative to the baseline"})
    of: str | None = field(default=None, metadata={"help": "class whose selectivity counts; null: the batch's first"})

    def __call__(self, scores: Scores, labels: Labels) -> list[Partition]:
        known = labels.selectivity
        if not known:
            raise HarnessError(
                "partitioner size_matched: the labels have no selectivities, so a threshold selects nothing.",
                "Use labels=survey, or choose the size: partitioner=top_k 'partitioner.sizes=[8]'",
            )
        of = next(iter(known)) if self.of is None else self.of
        if of not in known:
            raise HarnessError(
                f"partitioner.of={of}: the labels have no such class.", f"Their classes: {', '.join(known)}."
            )
        size = int((known[of] >= self.at).sum())
        order = scores.units.canonical
        best = order[np.argsort(-scores.values[order], kind="stable")][:size]
        group = np.full(len(order), -1, dtype=np.int64)
        group[best] = 0
        return [Partition(1, group, f"as many as {of} >= {self.at:g}", {"class": of})]


@hookimpl
def harness_partitioners() -> list[type[SizeMatched]]:
    return [SizeMatched]
