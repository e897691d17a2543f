"""A random sequence, written twice: what follows in the first copy is the only answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.closure.task import task_of
from harness.data.batch import Batch, Vocabulary
from harness.data.grouping import Labels
from harness.data.tokens import Tokens
from harness.registry.config import registry
from harness.testing.examples import word_vocabulary
from harness.util.errors import HarnessError


def build(stage: str, method: str, **parameters: Any) -> Any:
    return registry().get(stage, method).build(parameters)


def write(vocabulary: Vocabulary | None = None, **parameters: Any) -> Tokens:
    batch: Tokens = build("batch", "random_repeat", **parameters)(vocabulary or word_vocabulary(50_000, 2048))
    return batch


@given(seed=st.integers(0, 2**32 - 1), copy=st.integers(8, 30), n=st.integers(1, 20))
def test_the_answer_follows_the_only_earlier_occurrence_of_the_query(seed: int, copy: int, n: int) -> None:
    batch = write(n=n, length=2 * copy, seed=seed, vocab=[7, 50])
    for tokens, query, target in zip(batch.tokens, batch.query.tolist(), batch.target.tolist(), strict=True):
        assert tokens[:copy].tolist() == tokens[copy:].tolist()
        assert len(set(tokens.tolist())) == copy
        (earlier,) = np.flatnonzero(tokens[:query] == tokens[query])
        assert tokens[earlier + 1] == target
        assert target not in tokens[copy : query + 1]
        assert copy + copy // 2 <= query < 2 * copy - 1
    assert batch.tokens.min() >= 7
    assert batch.tokens.max() < 50


@given(seed=st.integers(0, 2**32 - 1), copy=st.integers(8, 30), n=st.integers(1, 20))
def test_the_counterfactual_has_another_token_as_the_only_difference_and_as_its_answer(
    seed: int, copy: int, n: int
) -> None:
    batch, row = write(n=n, length=2 * copy, seed=seed, vocab=[0, copy + 1]), np.arange(n)
    other, answer = batch.counterfactual_batch, batch.anchors["induction"][:, 0]
    assert (np.argwhere(other.tokens != batch.tokens) == np.stack([row, answer], axis=1)).all()
    assert (other.tokens[row, answer] == other.target).all()
    assert not (batch.tokens == other.target[:, None]).any()


def test_anchors_are_the_positions_that_each_class_attends_to() -> None:
    batch, row = write(n=40), np.arange(40)
    first = batch.query - 24
    assert (batch.anchors["duplicate-token"][:, 0] == first).all()
    assert (batch.anchors["induction"][:, 0] == first + 1).all()
    assert (batch.tokens[row, first + 1] == batch.target).all()
    assert (batch.anchors["previous-token"][:, 0] == batch.query - 1).all()
    places = np.concatenate(list(batch.anchors.values()), axis=1)
    assert all(len(set(example)) == len(example) for example in places.tolist())  # no class shares a position


def test_every_later_position_of_a_copy_is_asked_equally_often() -> None:
    """Positions 12 to 22 of a copy of 24: each in 1/11 of the examples (3 s.d. of 4000 are .014)."""
    asked = write(n=4000).query - 24
    assert set(asked.tolist()) == set(range(12, 23))
    np.testing.assert_allclose(np.bincount(asked)[12:] / 4000, 1 / 11, atol=0.014)


@pytest.mark.parametrize(("vocabulary", "context", "copy"), [(50_000, 2048, 24), (320, 30, 15), (12, 64, 11)])
def test_a_small_context_or_vocabulary_shortens_the_copies(vocabulary: int, context: int, copy: int) -> None:
    batch = write(word_vocabulary(vocabulary, context), n=6)
    assert batch.tokens.shape == (6, 2 * copy)
    assert batch.notes["length"] == 2 * copy
    batch.check(word_vocabulary(vocabulary, context))


def test_the_seed_decides_the_examples() -> None:
    one, same, other = (write(n=8, seed=seed) for seed in (1, 1, 2))
    assert one.digest == same.digest != other.digest


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n": 0}, r"batch\.n=0"),
        ({"length": 14}, r"batch\.length=14: must be at least 16"),
        ({"length": 25}, r"batch\.length=25: must be a multiple of 2"),
        ({"vocab": [100, 60_000]}, r"vocab=\[100,60000\].*50000"),
        ({"vocab": [7, 15]}, "fewer than 9 tokens"),
    ],
)
def test_impossible_examples_are_refused(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(HarnessError, match=message):
        write(**parameters)


def test_a_context_of_fifteen_positions_is_too_short() -> None:
    with pytest.raises(HarnessError, match="needs 16 positions; the subject has 15"):
        write(word_vocabulary(320, 15))


@pytest.fixture(scope="module")
def tiny() -> Any:
    return build("subject", "tiny")()


def test_the_tiny_model_does_the_task_in_almost_every_example(tiny: Any) -> None:
    batch: Batch = write(tiny.reads, n=128, seed=3)
    metrics = [build("metric", name) for name in ("logit_difference", "accuracy")]
    task = task_of(tiny.evaluate, batch, build("intervention", "zero"), metrics, 0)
    assert task.done
    assert task.accuracy is not None
    assert task.accuracy > 0.95


def test_the_survey_finds_the_heads_that_it_finds_on_single_pairs(tiny: Any) -> None:
    """Both batches have the same anchors: the strongest induction, self and first-token heads are the same."""
    survey = build("labels", "survey")
    found = []
    for name in ("random_repeat", "synthetic_induction"):
        batch = build("batch", name, n=128, seed=3)(tiny.reads)
        labels: Labels = survey(tiny.record(batch, {"labels": survey}, lambda _: None))
        by_class: dict[str, set[str]] = {}
        for unit, name_of_class in zip(labels.units.labels, labels.classes, strict=True):
            by_class.setdefault(name_of_class, set()).add(unit)
        found.append(by_class)
    repeat, pairs = found
    assert "L1H2" in repeat["induction"] & pairs["induction"]
    assert pairs["induction"] <= repeat["induction"]
    assert repeat["self"] == pairs["self"] == {"L0H0", "L0H7"}
    assert repeat["first-token"] == pairs["first-token"] == {f"L2H{head}" for head in range(8)}
    assert {"L0H1", "L0H2", "L0H5", "L0H6"} <= repeat["previous-token"] & pairs["previous-token"]
