"""Examples for planted subjects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Ge

from harness import BatchMethod, Counterfactual, HarnessError, Tokens, Vocabulary, hookimpl, rng_for
from harness.data.stages import FOR_COUNTERFACTUALS
from harness.data.tokens import LOCAL

STRATUM, STRATA = 1, 4  # position of the token that decides the stratum, and the number of strata
EARLIEST = 12  # first query position: the tokens that a planted subject reads come before it


@dataclass(frozen=True)
class PlantedBatch(BatchMethod):
    """Random tokens with a query at a random position; the answer is the first token.

    The tokens after the first one tell a planted subject which of its circuits are active. Each is active in half of
    the examples, independently. Query positions are uniform over 12 .. context - 1. Anchors: first-token, self,
    previous-token and local. No token is repeated on purpose, so there are no anchors for induction and
    duplicate-token. The property ``stratum`` of an example is the one that planted subjects read from
    it; ``domain``, which batches of text have, is the same. The counterfactual has the same tokens except the first,
    which is its answer.

    Errors: a context below 13 positions; a vocabulary of fewer than two tokens.
    Source: none; made for subjects with planted circuits (batch=planted subject=planted).
    """

    name: ClassVar[str] = "planted"
    defaults: ClassVar[Mapping[str, str | Sequence[str]]] = FOR_COUNTERFACTUALS
    n: Annotated[int, Ge(1)] = field(default=256, metadata={"help": "number of examples"})
    seed: int = field(default=0, metadata={"help": "seed of every draw"})

    def __call__(self, vocabulary: Vocabulary) -> Tokens:
        size, length = vocabulary.vocab_size, min(vocabulary.context, 64)
        if size < 2 or length <= EARLIEST:
            raise HarnessError(
                f"batch planted needs two tokens and {EARLIEST + 1} positions; the subject has {size} and {length}.",
                "Use it with subject=planted.",
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
        stratum = tokens[:, STRATUM] % STRATA
        groups = {"stratum": stratum, "domain": stratum}
        return Tokens(self.name, tokens, query, target, anchors, "answer", {"length": length}, counterfactual, groups)


@hookimpl
def harness_batches() -> list[type[PlantedBatch]]:
    return [PlantedBatch]
