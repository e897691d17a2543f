"""Batches: checked when created, split by a seed, identified by what a subject reads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.data.batch import Batch
from harness.data.tokens import Tokens
from harness.testing.examples import word_vocabulary
from harness.util.errors import HarnessError


def make(**changes: Any) -> Batch:
    """Four examples of six tokens, with different query positions."""
    parts: dict[str, Any] = {
        "name": "made",
        "tokens": np.arange(24).reshape(4, 6),
        "query": np.array([5, 3, 4, 5]),
        "target": np.array([7, 8, 9, 10]),
        "anchors": {"self": np.array([[5], [3], [4], [5]]), "local": np.array([[3, 2], [1, 0], [2, 1], [3, 2]])},
        "target_kind": "successor",
    }
    return Tokens(**{**parts, **changes})


def edit(values: np.ndarray, at: tuple[int, ...], value: int) -> np.ndarray:
    edited = values.copy()
    edited[at] = value
    return edited


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"query": np.array([5, 3, 6, 5])}, "query position 6 of example 2 is past its sequence of 6 tokens"),
        ({"query": np.array([5, 3, -1, 5])}, "query position -1 of example 2"),
        ({"query": np.array([5, 3, 4])}, "4 examples but 3 entries in 'query'"),
        ({"target": np.array([1, 2, 3, 4, 5])}, "4 examples but 5 entries in 'target'"),
        ({"target": np.array([7, -8, 9, 10])}, "target -8 is negative"),
        ({"tokens": edit(np.arange(24).reshape(4, 6), (1, 2), -100)}, "token -100 is negative"),
        ({"anchors": {"self": np.array([[5], [3], [4]])}}, "4 examples but 3 entries in 'self'"),
        ({"anchors": {"self": np.array([5, 3, 4, 5])}}, r"anchors of 'self' have shape \(4,\)"),
        ({"anchors": {"self": np.zeros((4, 0), dtype=int)}}, r"anchors of 'self' have shape \(4, 0\)"),
        ({"anchors": {"self": np.array([[5], [4], [4], [5]])}}, "an anchor of 'self' lies outside"),
        ({"anchors": {"self": np.array([[5], [-1], [4], [5]])}}, "an anchor of 'self' lies outside"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_a_batch_with_invalid_queries_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(HarnessError, match=message):
        make(**changes)


@pytest.mark.usefixtures("unchecked")
def test_ragged_anchors_are_refused() -> None:
    ragged = np.array([[5], [3, 2], [4], [5]], dtype=object)
    with pytest.raises(HarnessError, match=r"anchors of 'self' have shape"):
        make(anchors={"self": ragged})


def test_a_batch_without_examples_is_refused() -> None:
    none = np.zeros(0, dtype=int)
    with pytest.raises(HarnessError, match="no examples"):
        make(tokens=np.zeros((0, 6), dtype=int), query=none, target=none, anchors={})


def test_padding_after_the_query_may_be_anything() -> None:
    assert make(tokens=edit(np.arange(24).reshape(4, 6), (1, 4), -100)).digest == make().digest


@pytest.mark.parametrize(
    ("changes", "vocabulary", "message"),
    [
        ({}, {"vocab_size": 23}, "token 23 is outside the subject's vocabulary of 23 tokens"),
        ({"target": np.array([7, 8, 9, 99])}, {"vocab_size": 50}, "target 99 is outside"),
        ({}, {"context": 5}, "query position 5 is past the subject's context of 5 positions"),
    ],
)
def test_a_batch_that_a_subject_cannot_read_is_refused(
    changes: dict[str, Any], vocabulary: dict[str, int], message: str
) -> None:
    make(**changes).check(word_vocabulary(vocab_size=100, context=6))
    with pytest.raises(HarnessError, match=message):
        make(**changes).check(word_vocabulary(**{"vocab_size": 100, "context": 6, **vocabulary}))


def test_tokens_after_the_query_may_lie_outside_the_vocabulary() -> None:
    make(tokens=edit(np.arange(24).reshape(4, 6), (1, 5), 5000)).check(word_vocabulary(vocab_size=24, context=6))


@given(st.integers(0, 3), st.integers(0, 5), st.integers(100, 200))
def test_the_digest_depends_on_exactly_the_tokens_the_subject_reads(example: int, position: int, token: int) -> None:
    changed = make(tokens=edit(make().tokens, (example, position), token))
    assert (changed.digest == make().digest) == (position > make().query[example])


@pytest.mark.parametrize(
    "changes",
    [
        {"query": np.array([5, 4, 4, 5])},
        {"target": np.array([7, 8, 9, 11])},
        {"anchors": {"self": make().anchors["self"]}},
        {"anchors": {**make().anchors, "local": edit(make().anchors["local"], (0, 0), 1)}},
        {"anchors": {"selves": make().anchors["self"], "local": make().anchors["local"]}},
    ],
)
def test_the_digest_depends_on_queries_targets_and_anchors(changes: dict[str, Any]) -> None:
    assert make(**changes).digest != make().digest


def test_the_digest_ignores_names_notes_padding_and_the_order_of_anchors() -> None:
    anchors = dict(reversed(make().anchors.items()))
    wide = np.pad(make().tokens, ((0, 0), (0, 3)), constant_values=9)
    assert make(name="other", notes={"a": 1}, anchors=anchors, tokens=wide).digest == make().digest


def test_taking_examples_selects_every_field() -> None:
    taken = make().take(np.array([2, 0]))
    assert taken.tokens.tolist() == make().tokens[[2, 0]].tolist()
    assert taken.query.tolist() == [4, 5]
    assert taken.target.tolist() == [9, 7]
    assert taken.anchors["local"].tolist() == [[2, 1], [3, 2]]


@given(st.integers(2, 40), st.integers(0, 1000))
def test_halves_are_disjoint_and_complete(n: int, seed: int) -> None:
    whole = make(
        tokens=np.arange(n)[:, None].repeat(3, axis=1),
        query=np.full(n, 2),
        target=np.arange(n),
        anchors={"self": np.full((n, 1), 2)},
    )
    propose, test = whole.halves(seed)
    assert len(propose) == n // 2
    assert sorted([*propose.target.tolist(), *test.target.tolist()]) == list(range(n))
    again = whole.halves(seed)
    assert (again[0].digest, again[1].digest) == (propose.digest, test.digest)


def test_a_different_seed_gives_different_halves() -> None:
    many = make(tokens=np.ones((50, 2), dtype=int), query=np.ones(50, dtype=int), target=np.arange(50), anchors={})
    assert many.halves(0)[0].digest != many.halves(1)[0].digest


def test_one_example_cannot_be_split() -> None:
    with pytest.raises(HarnessError, match="cannot be split") as caught:
        make().take(np.array([0])).halves(0)
    assert "split=none" in caught.value.fix
