"""Number of directions that a head's outputs span."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from harness import Activity, HarnessError, Recording, Rows, Source, hookimpl

TINY = 1e-12  # inside the logarithm, as published


@dataclass(frozen=True)
class ParticipationRatio:
    r"""In how many directions a head's output varies over examples: the entropy rank of its outputs.

    .. math:: \mathrm{PR}(X) = \exp\Bigl(-\sum_i p_i \log(p_i + 10^{-12})\Bigr), \qquad
              p_i = \sigma_i^2 \Big/ \sum_j \sigma_j^2

    with :math:`\sigma` the singular values of X [examples, head_dim], what the head hands to the output projection at
    the query, one row per example, not centred. (The name also stands for :math:`(\sum\sigma^2)^2 / \sum\sigma^4`,
    which this is not.) A head that always writes the same has 1; one that writes nothing at all has 0.

    The score per unit is the PR over the whole batch. Activity is the PR over each ``block`` of consecutive examples,
    so that units can be compared over observations; a last incomplete block is dropped, and the position of an
    observation is its block's mean query position.

    Input: head outputs at the query [examples, heads, head_dim]. Output: activity [blocks, units] in directions, from 1
    to min(block, head_dim), or 0; scores [units], from 1 to min(examples, head_dim), or 0.

    Errors: a block of fewer than two examples, a batch of fewer than two blocks.
    Source: probe-circuit paper (Xu 2026): formula as its scripts compute it; blocks are this project's.
    """

    name: ClassVar[str] = "participation_ratio"
    source: ClassVar[Source] = "head_output"
    block: int = field(default=8, metadata={"help": "consecutive examples that make one observation"})

    def __post_init__(self) -> None:
        if self.block < 2:
            raise HarnessError(
                f"signal.block={self.block}: outputs of one example have one direction.", "Use 2 or more, e.g. 8."
            )

    def read(self, rows: Rows) -> Float[np.ndarray, "examples heads head_dim"]:
        return rows.values

    def __call__(self, recording: Recording) -> Activity:
        outputs, query = recording.readings["signal"], recording.batch.query
        blocks = len(outputs) // self.block
        if blocks < 2:
            fits = len(outputs) // 2
            raise HarnessError(
                f"signal.block={self.block}: {len(outputs)} examples to propose on do not make two blocks, and units "
                "are compared over blocks.",
                "Ask for more examples (batch.n=...)" + (f", or signal.block={fits}." if fits >= 2 else "."),
            )
        kept = blocks * self.block
        whole, parts = [], []
        for unit in range(len(recording.units)):  # one at a time: a singular value decomposition needs a copy
            own = outputs[:, unit].astype(np.float64)
            whole.append(participation_ratio(own))
            parts.append(participation_ratio(own[:kept].reshape(blocks, self.block, -1)))
        return Activity(
            np.stack(parts, axis=1),
            recording.units,
            own_scores=np.array(whole),
            position=query[:kept].reshape(blocks, self.block).mean(axis=1),
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
