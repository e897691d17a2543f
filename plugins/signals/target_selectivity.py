"""Attention on one class's canonical target."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from harness import Activity, HarnessError, Recording, Rows, Signal, Source, hookimpl, tokens_of

SMALLEST = 1e-8  # of the baseline, as published


@dataclass(frozen=True)
class TargetSelectivity(Signal):
    r"""How much a head attends to the canonical target of one head class: a hypothesis, tested on every head.

    .. math:: a_{e,h} = \operatorname{mean}_{t \in t_c(e)} A^{(h)}_{e}[q_e, t], \qquad
              \text{score}_h = \frac{\operatorname{mean}_e a_{e,h}}
              {\max(\operatorname{mean}_{e,\, b \in \text{others}(e)} A^{(h)}_{e}[q_e, b],\ 10^{-8})}

    :math:`t_c` are the batch's anchors of the class; others are all positions up to the query that are not an anchor of
    any class in this example. The score of a unit is the survey's selectivity: a ratio of means, not a mean of ratios.

    Input: attention rows at the query [examples, heads, keys]. Output: activity [examples, units] in [0, 1]; scores
    [units], dimensionless, 0 or more.

    Errors: a batch without anchors of the class, or without any.
    Source: the selectivity of the probe-circuit paper (Xu 2026), as its scripts compute it.
    """

    name: ClassVar[str] = "target_selectivity"
    source: ClassVar[Source] = "attention"
    of: str | None = field(
        default="induction",
        metadata={"help": "anchors of the batch (a class of heads) that are the target; null: the batch's first"},
    )

    def read(self, rows: Rows) -> Float[np.ndarray, "examples heads target_and_others"]:
        batch, attention = tokens_of(rows.batch, f"signal {self.name}"), rows.values
        of = next(iter(batch.anchors), "") if self.of is None else self.of
        if of not in batch.anchors:
            raise HarnessError(
                f"signal.of={self.of}: batch {batch.name} has no anchors of this class.",
                f"Its anchors: {', '.join(batch.anchors) or 'none'}. Choose one of them, or another batch.",
            )
        on_target = attention[np.arange(len(batch))[:, None], :, batch.anchors[of]].mean(axis=1)
        free = batch.others(attention.shape[2])
        on_others = np.einsum("eht,et->eh", attention.astype(np.float64), free)
        return np.stack([on_target, on_others / np.maximum(free.sum(axis=1), 1)[:, None]], axis=2)

    def __call__(self, recording: Recording) -> Activity:
        readings = recording.readings["signal"]
        on_target, on_others = np.moveaxis(readings.mean(axis=0), -1, 0)
        return Activity(readings[:, :, 0], recording.units, own_scores=on_target / np.maximum(on_others, SMALLEST))


@hookimpl
def harness_signals() -> list[type[TargetSelectivity]]:
    return [TargetSelectivity]
