"""Number of directions that a head's outputs span."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Ge
from jaxtyping import Float

from harness import Activity, HarnessError, Recording, Rows, Signal, Source, hookimpl

TINY = 1e-12  # inside the logarithm, as published


@dataclass(frozen=True)
class ParticipationRatio(Signal):
    r"""The number of directions in which a head's output varies over examples: its entropy rank.

    .. math:: \mathrm{PR}(X) = \exp\Bigl(-\sum_i p_i \log(p_i + 10^{-12})\Bigr), \qquad
              p_i = \sigma_i^2 \Big/ \sum_j \sigma_j^2

    :math:`\sigma` are the singular values of X [examples, head_dim]: the head's input to the output projection at the
    query, one row per example, not centred. (The name is also used for :math:`(\sum\sigma^2)^2 / \sum\sigma^4`, which
    is a different number.) A head with a constant output has 1; a head that writes nothing has 0.

    The score of a unit is its PR over the whole batch. Its activity is the PR of each ``block`` of consecutive
    examples. A last incomplete block is dropped. The position of an observation is the mean query position of its
    block.

    Input: head outputs at the query [examples, heads, head_dim]. Output: activity [blocks, units] in directions, from 1
    to min(block, head_dim), or 0; scores [units], from 1 to min(examples, head_dim), or 0.

    Errors: fewer than two blocks of examples.
    Source: probe-circuit paper (Xu 2026), the formula as its scripts compute it. The blocks are an addition here.
    """

    name: ClassVar[str] = "participation_ratio"
    source: ClassVar[Source] = "head_output"
    block: Annotated[int, Ge(2)] = field(default=8, metadata={"help": "consecutive examples per observation"})

    def read(self, rows: Rows) -> Float[np.ndarray, "examples heads head_dim"]:
        return rows.values

    def __call__(self, recording: Recording) -> Activity:
        outputs, query = recording.readings["signal"], recording.batch.query
        blocks = len(outputs) // self.block
        if blocks < 2:
            largest = len(outputs) // 2
            raise HarnessError(
                f"signal.block={self.block}: the {len(outputs)} examples proposed on do not fill two blocks. Units are "
                "compared over blocks, so at least two are needed.",
                "Use more examples (batch.n=...)" + (f", or signal.block={largest}." if largest >= 2 else "."),
            )
        used = blocks * self.block
        whole, parts = [], []
        for unit in range(len(recording.units)):  # one at a time: a singular value decomposition needs a copy
            values = outputs[:, unit].astype(np.float64)
            whole.append(participation_ratio(values))
            parts.append(participation_ratio(values[:used].reshape(blocks, self.block, -1)))
        return Activity(
            np.stack(parts, axis=1),
            recording.units,
            own_scores=np.array(whole),
            position=query[:used].reshape(blocks, self.block).mean(axis=1),
        )


def participation_ratio(outputs: Float[np.ndarray, "*blocks examples head_dim"]) -> Float[np.ndarray, "*blocks"]:
    """Exponential of the entropy of the squared singular values; 0 where all are zero."""
    energy = np.linalg.svd(outputs, compute_uv=False) ** 2
    total = energy.sum(axis=-1)
    share = energy / np.where(total > 0, total, 1.0)[..., None]
    return np.where(total > 0, np.exp(-(share * np.log(share + TINY)).sum(axis=-1)), 0.0)


@hookimpl
def harness_signals() -> list[type[ParticipationRatio]]:
    return [ParticipationRatio]
