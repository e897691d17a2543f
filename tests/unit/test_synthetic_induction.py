"""The published examples, draw by draw, against a direct re-implementation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness.data.batch import Batch, Vocabulary
from harness.registry.config import registry
from harness.testing.examples import word_vocabulary
from harness.util.errors import HarnessError

LARGE = word_vocabulary(vocab_size=50_000, context=2048)


def write(vocabulary: Vocabulary = LARGE, **parameters: Any) -> Batch:
    batch: Batch = registry().get("batch", "synthetic_induction").build(parameters)(vocabulary)
    return batch


def recipe(n: int, length: int, seed: int, lo: int, hi: int) -> tuple[list[list[int]], list[int], list[int]]:
    """The closure paper's `build_induction_batch`, with its constants named: sequences, places of A, targets."""
    rng = np.random.RandomState(seed)
    sequences, places, targets = [], [], []
    for _ in range(n):
        seq = list(rng.randint(lo, hi, length))
        a, b = rng.choice(np.arange(lo, hi), 2, replace=False)
        ab_idx = rng.randint(20, length // 2)
        seq[ab_idx] = a
        seq[ab_idx + 1] = b
        for i in [i for i in range(length) if seq[i] == a and i != ab_idx]:
            seq[i] = rng.randint(lo, hi)
        for i in [i for i in range(length) if seq[i] == b and i != ab_idx + 1]:
            seq[i] = rng.randint(lo, hi)
        seq[length - 1] = a
        sequences.append([int(token) for token in seq])
        places.append(int(ab_idx))
        targets.append(int(b))
    return sequences, places, targets


@pytest.mark.parametrize(
    ("n", "length", "seed", "lo", "hi"),
    [(40, 256, 42, 100, 10_000), (25, 64, 0, 5, 40), (10, 42, 7, 0, 4), (15, 101, 3, 100, 130)],
)
def test_the_examples_are_the_published_ones_token_by_token(n: int, length: int, seed: int, lo: int, hi: int) -> None:
    batch = write(n=n, length=length, seed=seed, vocab=[lo, hi])
    sequences, places, targets = recipe(n, length, seed, lo, hi)
    assert batch.tokens.tolist() == sequences
    assert batch.target.tolist() == targets
    assert batch.anchors["duplicate-token"][:, 0].tolist() == places


def test_the_defaults_are_those_of_the_paper_except_the_number_of_examples() -> None:
    batch = write(n=5)
    assert batch.tokens.tolist() == recipe(5, 256, 42, 100, 10_000)[0]
    assert batch.target_kind == "successor"
    assert batch.notes["vocab"] == [100, 10_000]
    assert not batch.notes["vocab_adapted"]


def test_the_query_is_the_second_a_and_anchors_are_the_positions_each_class_attends_to() -> None:
    batch = write(n=30, length=80)
    row = np.arange(30)
    assert (batch.query == 79).all()
    first = batch.anchors["duplicate-token"][:, 0]
    a = batch.tokens[row, batch.query]
    assert (batch.tokens[row, first] == a).all()
    assert (batch.anchors["induction"][:, 0] == first + 1).all()
    assert (batch.tokens[row, first + 1] == batch.target).all()
    assert (batch.anchors["previous-token"] == 78).all()
    assert (batch.anchors["self"] == 79).all()
    assert (batch.anchors["first-token"] == 0).all()
    assert (np.sort(batch.anchors["local"]) == [74, 75, 76, 77]).all()


def test_a_small_vocabulary_shrinks_the_range_and_is_noted() -> None:
    batch = write(word_vocabulary(vocab_size=320, context=64), n=20)
    assert batch.notes["vocab"] == [10, 320]  # 320 // 32 special and punctuation tokens are left out
    assert batch.notes["vocab_adapted"]
    assert batch.tokens.min() >= 10
    assert batch.tokens.max() < 320
    assert batch.tokens.shape == (20, 64)
    batch.check(word_vocabulary(vocab_size=320, context=64))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n": 0}, r"batch\.n=0"),
        ({"length": 41}, r"batch\.length=41"),
        ({"vocab": [100, 60_000]}, r"vocab=\[100,60000\].*50000"),
        ({"vocab": [-1, 50]}, r"vocab=\[-1,50\]"),
        ({"vocab": [7, 9]}, "fewer than 3 tokens"),
        ({"vocab": [1, 2, 3]}, r"batch\.vocab"),
        ({"length": "long"}, r"batch\.length='long'"),
    ],
)
def test_impossible_examples_are_refused(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(HarnessError, match=message):
        write(**parameters)
