"""Random tokens with one pair repeated: A B ... A -> B."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from harness import Batch, Counterfactual, HarnessError, Vocabulary, hookimpl, rng_for
from harness.data.batch import default_id_range, repeat_anchors

EARLIEST = 20  # where the first A may stand


@dataclass(frozen=True)
class SyntheticInduction:
    """Sequences of random tokens in which a pair A B occurs once, and A again at the end: what follows is B.

    Per example, from one ``RandomState(seed)``, in this order: ``length`` tokens from [lo, hi); A and B, distinct, from
    the same range; the place of A from [20, length // 2); A and B are written there; every other occurrence of A, then
    of B, is replaced by a fresh token; the last token becomes A. Query: the last position. Target: B.

    The counterfactual of an example (for patching and logit_difference) has another token B' in the place of the first
    B, and nothing else: what follows the second A in it is B'. B' is drawn from the same range, unlike A and B, from a
    generator of its own, so that the examples are the published ones to the token.

    ``length`` none: 256, or the subject's context where that is shorter. ``vocab`` none: [100, 10000), shrunk to a
    small vocabulary. What was used stands in the batch's notes.

    Errors: a range outside the vocabulary or too narrow for two tokens, a length below 42, no examples.
    Source: the closure paper's synthetic batch, as its script makes it (n=2000, length 256, seed 42, tokens
    [100, 10000) for every tokenizer, no BOS).
    """

    name: ClassVar[str] = "synthetic_induction"
    n: int = field(default=512, metadata={"help": "examples; the paper has 2000"})
    length: int | None = field(default=None, metadata={"help": "tokens per example"})
    seed: int = field(default=42, metadata={"help": "of every draw"})
    vocab: tuple[int, int] | None = field(default=None, metadata={"help": "token ids [lo, hi)"})

    def __post_init__(self) -> None:
        if self.n < 1:
            raise HarnessError(f"batch.n={self.n}: ask for at least one example.")

    def __call__(self, vocabulary: Vocabulary) -> Batch:
        length = self.length if self.length is not None else min(256, vocabulary.context)
        low, high = self.vocab or default_id_range(vocabulary.vocab_size)
        if length < 2 * EARLIEST + 2:
            raise HarnessError(f"batch.length={length}: the first pair stands at 20 or later, in the first half.")
        if not 0 <= low < high - 2 or high > vocabulary.vocab_size:
            raise HarnessError(
                f"batch.vocab=[{low},{high}]: targets would lie outside the subject's vocabulary of "
                f"{vocabulary.vocab_size} tokens, or the range holds fewer than three.",
                f"Use [lo,hi) with 0 <= lo < hi - 2 and hi <= {vocabulary.vocab_size}, or leave it out.",
            )
        tokens, first, target = self._draw(length, low, high)
        query = np.full(self.n, length - 1)
        anchors = repeat_anchors(first, query)
        notes = {"length": length, "vocab": [low, high], "vocab_adapted": self.vocab is None and high < 10_000}
        counterfactual = self._counterfactual(tokens, first, target, low, high)
        return Batch(self.name, tokens, query, target, anchors, "successor", notes, counterfactual)

    def _draw(self, length: int, low: int, high: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The recipe, draw by draw: the order of the calls is part of it."""
        rng = np.random.RandomState(self.seed)
        ids = np.arange(low, high)
        tokens = np.empty((self.n, length), dtype=np.int64)
        first, target = np.empty(self.n, dtype=np.int64), np.empty(self.n, dtype=np.int64)
        for example in range(self.n):
            sequence = rng.randint(low, high, length)
            a, b = rng.choice(ids, 2, replace=False)
            place = rng.randint(EARLIEST, length // 2)
            sequence[place], sequence[place + 1] = a, b
            for token, at in ((a, place), (b, place + 1)):
                for other in np.flatnonzero(sequence == token):
                    if other != at:
                        sequence[other] = rng.randint(low, high)
            sequence[-1] = a
            tokens[example], first[example], target[example] = sequence, place, b
        return tokens, first, target

    def _counterfactual(
        self, tokens: np.ndarray, first: np.ndarray, target: np.ndarray, low: int, high: int
    ) -> Counterfactual:
        """The examples with another token after the first A: any of the range but A and B, all alike probable."""
        drawn = rng_for(self.seed, "twins").integers(low, high - 2, self.n)
        for taken in np.sort(
            [tokens[:, -1], target], axis=0
        ):  # the smaller first: stepping over it may reach the other
            drawn = drawn + (drawn >= taken)
        tokens = tokens.copy()
        tokens[np.arange(self.n), first + 1] = drawn
        return Counterfactual(tokens, drawn)


@hookimpl
def harness_batches() -> list[type[SyntheticInduction]]:
    return [SyntheticInduction]
