"""Random tokens with one repeated pair: A B ... A -> B."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Ge

from harness import BatchMethod, Counterfactual, HarnessError, Tokens, Vocabulary, hookimpl, rng_for
from harness.data.stages import FOR_COUNTERFACTUALS
from harness.data.tokens import BOS_HELP, id_range, repeat_anchors, require_positions, with_bos

EARLIEST = 20  # first position of the first A


@dataclass(frozen=True)
class SyntheticInduction(BatchMethod):
    """Random tokens in which a pair A B occurs once and A again at the end; the answer is B.

    Each example uses one ``RandomState(seed)`` in this order: ``length`` tokens from [lo, hi); distinct A and B from
    the same range; the position of A from [20, length // 2). A and B are written there. Every other occurrence of A,
    then of B, is replaced by a new random token. The last token becomes A. Query: the last position. Target: B.

    The counterfactual of an example (for patching and logit_difference) differs in one token: the first B becomes B',
    so B' is its answer. B' is drawn from the same range, different from A and B. It comes from a generator of its own,
    so the examples equal the published ones token by token.

    Default ``length``: 256, or the subject's context if shorter. With ``bos``, examples begin with the tokenizer's BOS
    token, which ``length`` counts. Default ``vocab``: [100, 10000), reduced for a small vocabulary. The notes of the
    batch hold the values used.

    Errors: a range outside the vocabulary, or with fewer than three tokens; a length below 42.
    Source: the synthetic batch of the closure paper, as its script makes it (n=2000, length 256, seed 42, tokens
    [100, 10000) for every tokenizer, no BOS).
    """

    name: ClassVar[str] = "synthetic_induction"
    defaults: ClassVar[Mapping[str, str | Sequence[str]]] = FOR_COUNTERFACTUALS
    n: Annotated[int, Ge(1)] = field(default=512, metadata={"help": "number of examples; the paper uses 2000"})
    length: Annotated[int, Ge(2 * EARLIEST + 2)] | None = field(
        default=None, metadata={"help": "tokens per example; null: 256, or the context"}
    )
    seed: int = field(default=42, metadata={"help": "seed of every draw"})
    vocab: tuple[int, int] | None = field(
        default=None, metadata={"help": "token ids [lo, hi); null: [100, 10000), less in a small vocabulary"}
    )
    bos: bool | None = field(default=None, metadata={"help": BOS_HELP, "added": True})

    def __call__(self, vocabulary: Vocabulary) -> Tokens:
        bos, said = vocabulary.bos(self.bos)
        least = 2 * EARLIEST + 2 + (bos is not None)
        require_positions(self.name, least, vocabulary, ", or batch=random_repeat")
        length = self.length if self.length is not None else min(256, vocabulary.context)
        low, high = id_range(self.vocab, vocabulary.vocab_size, 3)
        if length < least:
            raise HarnessError(
                f"batch synthetic_induction needs {least} positions; batch.length has {length}.",
                f"Use batch.length={least} or more.",
            )
        drawn = length - (bos is not None)
        tokens, first, target = self._draw(drawn, low, high)
        query = np.full(self.n, drawn - 1)
        anchors = repeat_anchors(first, query)
        adapted = self.vocab is None and high < 10_000
        notes = {"length": length, "vocab": [low, high], "vocab_adapted": adapted, "bos": said}
        counterfactual = self._counterfactual(tokens, first, target, low, high)
        return with_bos(Tokens(self.name, tokens, query, target, anchors, "successor", notes, counterfactual), bos)

    def _draw(self, length: int, low: int, high: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The published recipe. The order of the calls is part of it."""
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
        """The examples with another token after the first A, uniform over the range without A and B."""
        drawn = rng_for(self.seed, "twins").integers(low, high - 2, self.n)
        for excluded in np.sort(
            [tokens[:, -1], target], axis=0
        ):  # the smaller one first: the number after it may be the other one
            drawn = drawn + (drawn >= excluded)
        tokens = tokens.copy()
        tokens[np.arange(self.n), first + 1] = drawn
        return Counterfactual(tokens, drawn)


@hookimpl
def harness_batches() -> list[type[SyntheticInduction]]:
    return [SyntheticInduction]
