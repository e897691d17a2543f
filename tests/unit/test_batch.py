"""Batches: checked when created, split by a seed, identified by what a subject reads: token sequences, then vectors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.data.batch import Counterfactual, Width
from harness.data.tokens import Tokens, tokens_of
from harness.data.vectors import Vectors
from harness.testing.examples import word_vocabulary
from harness.util.errors import HarnessError


def make(**changes: Any) -> Tokens:
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


def edit(values: np.ndarray, at: tuple[int, ...], value: float) -> np.ndarray:
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
@pytest.mark.unchecked
def test_a_batch_with_invalid_queries_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(HarnessError, match=message):
        make(**changes)


@pytest.mark.unchecked
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


@pytest.mark.unchecked
def test_groups_of_examples_are_part_of_a_batch() -> None:
    grouped = make(groups={"domain": np.array(["a", "b", "a", "c"])})
    assert grouped.digest == make().digest  # dividing the examples gives other batches
    assert grouped.take(np.array([3, 0])).groups["domain"].tolist() == ["c", "a"]
    with pytest.raises(HarnessError, match="4 examples but 3 entries in 'domain'"):
        make(groups={"domain": np.array(["a", "b", "a"])})


def test_exchanged_tokens_are_those_of_other_examples_up_to_their_query() -> None:
    """Cycle 0 1 2 3. Example 0 needs six tokens: the four of example 1, then two of example 2, and so on."""
    found = make().exchanged(np.array([0, 1, 2, 3]))
    expected = [[6, 7, 8, 9, 12, 13], [12, 13, 14, 15], [18, 19, 20, 21, 22], [0, 1, 2, 3, 4, 5]]
    assert [row[: query + 1].tolist() for row, query in zip(found.tokens, found.query, strict=True)] == expected
    assert found.query.tolist() == make().query.tolist()
    assert found.target.tolist() == make().target.tolist()
    assert found.counterfactual is None


# ----------------------------------------------------------------------------------------------------------------------
# Vectors
# ----------------------------------------------------------------------------------------------------------------------

VECTORS = np.arange(12.0).reshape(4, 3)
CLASSES, OUTPUTS = np.array([1, 0, 2, 1]), np.arange(8.0).reshape(4, 2)


def vectors(**changes: Any) -> Vectors:
    """Four vectors of three numbers, each with a class."""
    parts: dict[str, Any] = {"name": "made", "inputs": VECTORS, "target": CLASSES, "target_kind": "class"}
    return Vectors(**{**parts, **changes})


OTHER = Counterfactual(-VECTORS, np.array([0, 1, 1, 0]))


def test_a_vector_is_read_at_position_zero() -> None:
    assert vectors().query.tolist() == [0, 0, 0, 0]
    assert len(vectors()) == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inputs": np.zeros((0, 3)), "target": np.zeros(0, dtype=int)}, "no examples"),
        ({"target": CLASSES[:3]}, "4 examples but 3 entries in 'target'"),
        ({"groups": {"domain": np.array(["a"])}}, "4 examples but 1 entries in 'domain'"),
        ({"inputs": edit(VECTORS, (1, 2), np.nan)}, "inputs contains NaN or infinity"),
        ({"inputs": edit(VECTORS, (3, 0), -np.inf)}, "inputs contains NaN or infinity"),
        ({"target": edit(OUTPUTS, (0, 1), np.nan)}, "target contains NaN or infinity"),
        ({"target": edit(CLASSES, (2,), -1)}, "target contains class -1"),
        (
            {"counterfactual": Counterfactual(VECTORS[:, :2], CLASSES)},
            r"counterfactuals have shapes \(4, 2\) and \(4,\)",
        ),
        ({"counterfactual": Counterfactual(VECTORS, OUTPUTS)}, r"counterfactuals have shapes \(4, 3\) and \(4, 2\)"),
        ({"counterfactual": Counterfactual(VECTORS, CLASSES - 1)}, "target of a counterfactual contains class -1"),
        ({"counterfactual": Counterfactual(VECTORS * np.inf, CLASSES)}, "inputs of a counterfactual contains NaN"),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.unchecked
def test_invalid_vectors_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(HarnessError, match=message):
        vectors(**changes)


@given(st.integers(0, 3), st.integers(0, 2), st.sampled_from(["inputs", "target", "content"]))
def test_the_digest_of_vectors_depends_on_every_number(example: int, place: int, part: str) -> None:
    plain = vectors(counterfactual=OTHER)
    changed = {
        "inputs": {"inputs": edit(VECTORS, (example, place), 99)},
        "target": {"target": edit(CLASSES, (example,), 9)},
        "content": {"counterfactual": Counterfactual(edit(OTHER.content, (example, place), 99), OTHER.target)},
    }[part]
    assert vectors(**{"counterfactual": OTHER, **changed}).digest != plain.digest
    assert vectors(counterfactual=OTHER, name="other", notes={"a": 1}).digest == plain.digest
    assert len({plain.digest, vectors().digest, vectors(target=OUTPUTS).digest}) == 3


def test_taking_vectors_selects_every_field() -> None:
    whole = vectors(target=OUTPUTS, counterfactual=Counterfactual(-VECTORS, -OUTPUTS), groups={"row": np.arange(4)})
    taken = whole.take(np.array([2, 0]))
    assert taken.inputs.tolist() == VECTORS[[2, 0]].tolist()
    assert taken.target.tolist() == OUTPUTS[[2, 0]].tolist()
    assert taken.query.tolist() == [0, 0]
    assert taken.groups["row"].tolist() == [2, 0]
    assert taken.counterfactual is not None
    assert taken.counterfactual.content.tolist() == (-VECTORS[[2, 0]]).tolist()
    assert taken.counterfactual.target.tolist() == (-OUTPUTS[[2, 0]]).tolist()


def test_halves_of_vectors_are_the_halves_of_tokens() -> None:
    """The split depends on the seed and the number of examples only."""
    n = 21
    propose, test = vectors(inputs=np.ones((n, 2)), target=np.arange(n)).halves(7)
    tokens = make(tokens=np.ones((n, 2), dtype=int), query=np.ones(n, dtype=int), target=np.arange(n), anchors={})
    assert (len(propose), len(test)) == (10, 11)
    assert [half.target.tolist() for half in (propose, test)] == [half.target.tolist() for half in tokens.halves(7)]
    assert sorted([*propose.target, *test.target]) == list(range(n))


def test_exchanged_vectors_are_those_of_the_next_example_on_the_cycle() -> None:
    found = vectors(counterfactual=OTHER).exchanged(np.array([2, 0, 3, 1]))
    assert found.inputs.tolist() == VECTORS[[3, 2, 0, 1]].tolist()
    assert found.target.tolist() == CLASSES.tolist()
    assert found.counterfactual is None


def test_the_counterfactuals_of_vectors_are_a_batch_whose_counterfactuals_are_the_examples() -> None:
    other = vectors(counterfactual=OTHER).counterfactual_batch
    assert other.inputs.tolist() == (-VECTORS).tolist()
    assert other.target.tolist() == [0, 1, 1, 0]
    assert other.counterfactual_batch.digest == vectors(counterfactual=OTHER).digest
    with pytest.raises(HarnessError, match="has no counterfactuals"):
        _ = vectors().counterfactual_batch


@pytest.mark.parametrize(
    ("changes", "reads", "message"),
    [
        ({}, Width(4, 3), "inputs has 3 numbers per example; the subject has 4"),
        ({}, Width(3, 2), "target contains class 2, which is outside the subject's 2 outputs"),
        ({"target": OUTPUTS}, Width(3, 3), "target has 2 numbers per example; the subject has 3"),
        (
            {"target": np.zeros(4, dtype=int), "counterfactual": Counterfactual(VECTORS, CLASSES)},
            Width(3, 2),
            "target of a counterfactual contains class 2",
        ),
        ({}, word_vocabulary(), "has vectors; the subject reads token sequences"),
        ({}, None, "has vectors; the subject reads nothing, because it has no model"),
    ],
)
def test_vectors_that_a_subject_cannot_read_are_refused(changes: dict[str, Any], reads: Any, message: str) -> None:
    vectors(**changes).check(Width(3, 2 if "target" in changes and changes["target"] is OUTPUTS else 3))
    with pytest.raises(HarnessError, match=message):
        vectors(**changes).check(reads)


def test_tokens_are_refused_by_a_subject_of_vectors_and_vectors_by_methods_of_tokens() -> None:
    with pytest.raises(HarnessError, match="has token sequences; the subject reads vectors of 3 numbers"):
        make().check(Width(3, 3))
    with pytest.raises(HarnessError, match="labels survey needs token sequences; batch made has vectors"):
        tokens_of(vectors(), "labels survey")
    assert tokens_of(make(), "anyone").digest == make().digest
