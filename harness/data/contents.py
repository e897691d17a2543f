"""What is in examples: the features of vectors that are not zero, the token at the query of a sequence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy  # scipy.sparse loads at first use: `harness list` must stay fast

from harness.data.batch import Batch, Reads, Vocabulary
from harness.data.tokens import Tokens
from harness.data.vectors import Vectors

DENSE = 0.5
"""Vectors with more than this share of numbers that are not zero have no features that are present or absent."""


@dataclass(frozen=True, eq=False)
class Contents:
    """What each example contains: ``values`` [examples, kinds], sparse; ``name`` says what a kind is."""

    values: scipy.sparse.csr_array
    name: Callable[[int], str]


def contents_of(batch: Batch, reads: Reads) -> Contents | None:
    """Features with their values, or the query's token with the value 1. None: dense vectors, where all are present."""
    if isinstance(batch, Vectors):
        if np.count_nonzero(batch.inputs) > DENSE * batch.inputs.size:
            return None
        return Contents(scipy.sparse.csr_array(batch.inputs), lambda kind: f"x{kind}")
    if isinstance(batch, Tokens):
        ids, kinds = np.unique(batch.tokens[np.arange(len(batch)), batch.query], return_inverse=True)
        one = scipy.sparse.csr_array((np.ones(len(batch)), (np.arange(len(batch)), kinds.reshape(-1))))
        decode = reads.decode if isinstance(reads, Vocabulary) else None
        return Contents(one, lambda kind: decode([int(ids[kind])]) if decode else str(ids[kind]))
    return None
