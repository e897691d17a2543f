"""Examples for planted subjects."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from harness import Batch, Counterfactual, HarnessError, Vocabulary, hookimpl, rng_for
from harness.data.batch import LOCAL

EARLIEST = 12  # query position: what a planted subject reads stands before it


@dataclass(frozen=True)
class PlantedBatch:
    """Random tokens, asked at a random position; the answer is the first token.

    A planted subject reads from the tokens behind it which of its circuits are called for: each in half of the
    examples, independently. Query positions are even over 12 .. context - 1. Anchors: first-token, self, previous-token
    and local; no token is repeated on purpose, so there is none for induction and duplicate-token. Counterfactual: the
    same tokens, but for another first one, which is its answer.

    Errors: no examples, a context below 13 positions, a vocabulary of fewer than two tokens.
    Source: none; made for subjects whose truth is planted (batch=planted subject=planted).
    """

    name: ClassVar[str] = "planted"
    n: int = field(default=256, metadata={"help": "examples"})
    seed: int = field(default=0, metadata={"help": "of every draw"})

    def __post_init__(self) -> None:
        if self.n < 1:
            raise HarnessError(f"batch.n={self.n}: ask for at least one example.")

    def __call__(self, vocabulary: Vocabulary) -> Batch:
        size, length = vocabulary.vocab_size, min(vocabulary.context, 64)
        if size < 2 or length <= EARLIEST:
            raise HarnessError(
                f"batch planted needs two tokens and {EARLIEST + 1} positions; the subject has {size} and {length}.",
                "It is made for subject=planted.",
            )
        rng = rng_for(self.seed, "planted")
        tokens = rng.integers(0, size, (self.n, length))
        query = rng.integers(EARLIEST, length, self.n)
        target = tokens[:, 0].copy()
        other = (target + rng.integers(1, size, self.n)) % size
        anchors = {
            "previous-token": query[:, None] - 1,
            "first-token": np.zeros((self.n, 1), dtype=np.int64),
            "self": query[:, None],
            "local": query[:, None] - LOCAL,
        }
        counterfactual = Counterfactual(np.column_stack([other, tokens[:, 1:]]), other)
        return Batch(self.name, tokens, query, target, anchors, "answer", {"length": length}, counterfactual)


@hookimpl
def harness_batches() -> list[type[PlantedBatch]]:
    return [PlantedBatch]
