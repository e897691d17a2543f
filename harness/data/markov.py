"""Sequences of a random Markov chain, some of which repeat themselves: examples, and data to train small models on."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int

from harness.util.seeds import rng_for

SYMBOLS = 32
"""Tokens of the chain: ids from 0."""
CONTRAST = 2.0
"""Standard deviation of the chain's logits."""


def transitions(seed: int) -> Float[np.ndarray, "symbols symbols"]:
    """The probability of every next token, after every token."""
    logits = CONTRAST * rng_for(seed, "markov chain").standard_normal((SYMBOLS, SYMBOLS))
    powers = np.exp(logits)
    return np.asarray(powers / powers.sum(1, keepdims=True))


def sequences(
    chain: Float[np.ndarray, "symbols symbols"],
    repeat: Bool[np.ndarray, " rows"],
    length: int,
    rng: np.random.Generator,
) -> Int[np.ndarray, "rows positions"]:
    """One sequence for each entry of ``repeat``, which says whether its second half repeats the first."""
    ends = chain.cumsum(1)
    ends[:, -1] = 1.0  # not .999...
    drawn = rng.random((length, len(repeat)))
    tokens = np.empty((len(repeat), length), dtype=np.int64)
    tokens[:, 0] = (drawn[0] * len(chain)).astype(np.int64)
    for place in range(1, length):
        tokens[:, place] = (drawn[place][:, None] >= ends[tokens[:, place - 1]]).sum(1)
    half = length // 2
    tokens[repeat, half:] = tokens[repeat, :half]
    return tokens
