"""Sequences of a Markov chain, half of which repeat themselves: what `tiny_depth` was trained on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Ge, Le, MultipleOf

from harness import BatchMethod, HarnessError, Tokens, Vocabulary, hookimpl, rng_for
from harness.data.markov import SYMBOLS, sequences, transitions
from harness.data.tokens import require_positions


@dataclass(frozen=True)
class MarkovRepeats(BatchMethod):
    r"""Sequences of a random Markov chain over 32 tokens. In half of them, the second half repeats the first.

    .. math:: x_{t+1} \sim \operatorname{softmax}(A_{x_t}), \quad A_{ij} \sim N(0, 2^2); \qquad
              x_{m+t} = x_t \quad \text{in repeats of length } 2m

    The chain is that of the models of ``subject=depth_routes``; ``chain`` gives another. In a chain, the last token
    tells the next one only up to the chain's entropy, about two nats. In a repeat, the first half tells it exactly. The
    query is a random position, in repeats one of the second half; the target is the next token.
    ``groups`` has the domain of every example: ``chain`` or ``repeat``.

    Errors: a subject with fewer than 32 tokens or than ``length`` positions.
    Source: the small-scale task of the depth-routing experiments here; repeats as in Olsson et al. 2022.
    """

    name: ClassVar[str] = "markov_repeats"
    n: Annotated[int, Ge(2)] = field(default=512, metadata={"help": "number of examples"})
    length: Annotated[int, Ge(8), MultipleOf(2)] = field(default=32, metadata={"help": "tokens of a sequence"})
    repeats: Annotated[float, Ge(0), Le(1)] = field(default=0.5, metadata={"help": "share of examples that repeat"})
    chain: int = field(default=0, metadata={"help": "seed of the chain"})
    seed: int = field(default=0, metadata={"help": "seed of the sequences"})

    def __call__(self, vocabulary: Vocabulary) -> Tokens:
        require_positions(self.name, self.length, vocabulary)
        if vocabulary.vocab_size < SYMBOLS:
            raise HarnessError(
                f"batch {self.name} has {SYMBOLS} tokens; the subject has {vocabulary.vocab_size}.",
                "Use a subject with a larger vocabulary, such as subject=depth_routes.",
            )
        rng = rng_for(self.seed, "markov repeats")
        repeat = np.arange(self.n) < round(self.repeats * self.n)
        tokens = sequences(transitions(self.chain), repeat, self.length, rng)
        query = np.where(repeat, rng.integers(self.length // 2, self.length - 1, self.n),
                         rng.integers(1, self.length - 1, self.n))  # fmt: skip
        target = tokens[np.arange(self.n), query + 1]
        groups = {"domain": np.where(repeat, "repeat", "chain")}
        return Tokens(self.name, tokens, query, target, {}, "next_token", {"chain": self.chain}, groups=groups)


@hookimpl
def harness_batches() -> list[type[MarkovRepeats]]:
    return [MarkovRepeats]
