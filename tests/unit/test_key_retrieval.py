"""Examples with a codeword that is given once and asked for once, at a known distance."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harness.data.batch import Beginning, Vocabulary
from harness.data.corpus import python_documentation
from harness.data.python_source import is_held_out
from harness.data.tokens import Tokens
from harness.registry.config import registry
from harness.util.errors import HarnessError

METHOD = registry().get("batch", "key_retrieval")
NOUNS: tuple[str, ...] = METHOD.build({}).nouns
WORDS = {f" {noun}": 256 + place for place, noun in enumerate(NOUNS)}
N = 320


def encode(text: str, words: dict[str, int] = WORDS) -> list[int]:
    """Bytes, and one token for each noun with its space."""
    ids: list[int] = []
    for place, part in enumerate(text.split(" ")):
        spaced = f" {part}" if place else part
        ids += [words[spaced]] if spaced in words else spaced.encode()
    return ids


def decode(ids: list[int]) -> str:
    words = {token: word for word, token in WORDS.items()}
    return b"".join(words[i].encode() if i in words else bytes([i]) for i in ids).decode(errors="replace")


SPOKEN = Vocabulary(256 + len(NOUNS), 256, encode, decode)


def write(vocabulary: Vocabulary = SPOKEN, **parameters: Any) -> Tokens:
    batch: Tokens = METHOD.build({"n": N, **parameters})(vocabulary)
    return batch


@pytest.fixture(scope="module", params=["in", "out"])
def batch(request: pytest.FixtureRequest) -> Tokens:
    return write(gap=request.param, length=200)


def test_a_line_gives_the_codeword_and_a_later_line_asks_for_it(batch: Tokens) -> None:
    asks = {"Key:": "Get key:", "Set code to": "The code is", "Password:": "Enter password:"}
    asks |= {"The secret is": "What is the secret?", "Remember:": "Recall:"}
    for tokens, query, target, template in zip(
        batch.tokens.tolist(), batch.query.tolist(), batch.target.tolist(), batch.groups["template"], strict=True
    ):
        word, read = decode([target]), decode(tokens[: query + 1])
        assert read.count(word) == 1
        assert f"\n{template}{word}\n" in read
        assert read.endswith(f"\n{asks[template]}")
        assert decode(tokens[query + 1 :]).startswith(f"{word}\n")


def test_gaps_are_those_of_the_range_and_of_the_property() -> None:
    for gap, (low, high) in {"in": (5, 30), "out": (40, 70)}.items():
        batch = write(gap=gap)
        query_lines = {"Key:": 9, "Set code to": 12, "Password:": 16, "The secret is": 20, "Remember:": 8}
        asked = np.array([query_lines[template] for template in batch.groups["template"]])  # bytes
        between = batch.query - asked - batch.anchors["key"][:, 0]
        np.testing.assert_array_equal(between, batch.groups["gap"])
        assert (between.min(), between.max()) == (low, high)
    assert set(write(gap=[7, 7]).groups["gap"].tolist()) == {7}


def test_the_key_is_where_the_answer_stands(batch: Tokens) -> None:
    row = np.arange(N)
    np.testing.assert_array_equal(batch.tokens[row, batch.anchors["key"][:, 0]], batch.target)
    assert (batch.anchors["local"] > batch.anchors["key"]).all()


def test_every_codeword_is_the_answer_equally_often_so_chance_is_one_in_64(batch: Tokens) -> None:
    words, counts = np.unique(batch.target, return_counts=True)
    assert words.tolist() == list(range(256, 320))
    assert set(counts.tolist()) == {N // 64}
    assert batch.notes["chance"] == 1 / 64


def test_the_counterfactual_has_another_codeword_as_the_only_difference(batch: Tokens) -> None:
    other, key = batch.counterfactual_batch, batch.anchors["key"][:, 0]
    row = np.arange(N)
    assert (np.argwhere(other.tokens != batch.tokens) == np.stack([row, key], axis=1)).all()
    np.testing.assert_array_equal(other.tokens[row, key], other.target)
    assert (other.target != batch.target).all()
    assert set(other.target.tolist()) <= set(batch.target.tolist())


def test_text_is_held_out_or_that_of_the_training() -> None:
    for part, held_out in (("held-out", True), ("training", False)):
        source = "".join(text for text in python_documentation() if is_held_out(text) == held_out)
        for words in WORDS:
            source = source.replace(words, "")
        batch, found = write(split=part, n=64), 0
        for tokens, key, gap in zip(batch.tokens, batch.anchors["key"][:, 0], batch.groups["gap"], strict=True):
            found += decode(tokens[key + 2 : key + 1 + gap].tolist()) in source
        assert found > 55  # all but those with half a character, or with the end of a document


def test_distractors_are_other_codewords_in_the_text_before_the_question() -> None:
    plain, batch = write(length=200), write(length=200, distractors=3)
    for name in ("query", "target"):
        np.testing.assert_array_equal(getattr(batch, name), getattr(plain, name))
    where = batch.anchors["distractor"]
    changed = np.zeros_like(batch.tokens, dtype=bool)
    changed[np.arange(N)[:, None], where] = True
    np.testing.assert_array_equal(batch.tokens != plain.tokens, changed)  # the text has no codewords
    words = set(WORDS.values())
    assert batch.counterfactual is not None
    for tokens, places, answer, other in zip(
        batch.tokens, where.tolist(), batch.target, batch.counterfactual.target, strict=True
    ):
        found = tokens[places].tolist()
        assert len(set(found)) == 3
        assert words.issuperset(found)
        assert not {answer, other} & set(found)
    before = [tokens[:query].tolist() for tokens, query in zip(batch.tokens, batch.query, strict=True)]
    asked = np.array([len(decode(tokens).split("\n")[-1]) for tokens in before])
    assert (where.max(axis=1) < batch.query - asked).all()
    assert (where < batch.anchors["key"]).any()
    assert (where > batch.anchors["key"] + 1).any()
    assert not ((where == batch.anchors["key"]) | (where == batch.anchors["key"] + 1)).any()
    assert "distractor" not in plain.anchors


def test_more_distractors_than_there_is_room_for_are_refused() -> None:
    with pytest.raises(HarnessError, match="the shortest text before a question has 6 tokens"):
        write(distractors=7)
    with pytest.raises(HarnessError, match="of 4 codewords, two are the answers"):
        write(distractors=3, codewords=["zebra", "wolf", "whale", "river"])


def test_codewords_of_ones_own() -> None:
    batch = write(codewords=["zebra", "wolf"])
    assert np.unique(batch.target, return_counts=True)[1].tolist() == [N // 2, N // 2]
    assert batch.notes["chance"] == 0.5


def test_a_beginning_of_sequence_moves_everything_by_one() -> None:
    plain = write()
    spoken = Vocabulary(SPOKEN.vocab_size, 256, encode, decode, lambda: Beginning(0, True))
    begun = write(spoken)
    np.testing.assert_array_equal(begun.tokens[:, 1:], plain.tokens)
    np.testing.assert_array_equal(begun.anchors["key"], plain.anchors["key"] + 1)
    assert begun.notes["length"] == plain.notes["length"] + 1


def test_a_seed_draws_other_examples_and_the_same_seed_the_same(batch: Tokens) -> None:
    assert write().digest == write(gap=[5, 30]).digest != write(seed=1).digest


BYTES = Vocabulary(256, 256, lambda text: list(text.encode()))


@pytest.mark.parametrize(
    ("vocabulary", "parameters", "message"),
    [
        (Vocabulary(400, 256), {}, "needs a tokenizer"),
        (BYTES, {}, r"needs 8 codewords that are one token each.*has 0 of the 96 nouns"),
        (SPOKEN, {"codewords": ["wolf", "hippopotamus"]}, "does not write 'hippopotamus' as one token"),
        (SPOKEN, {"codewords": ["wolf", "wolf"]}, "does not write 'wolf' as one token that no other codeword"),
        (SPOKEN, {"gap": [4, 9]}, r"batch.gap=\[4,9\] is not a range of gaps of 5 tokens or more"),
        (SPOKEN, {"gap": [9, 8]}, r"batch.gap=\[9,8\] is not a range"),
        (SPOKEN, {"gap": [5, 300]}, r"gaps up to 300 needs 355 positions.*\n.*'batch.gap=\[5,201\]'"),
        (SPOKEN, {"length": 60}, r"batch.length=60: gaps up to 30 need 85 tokens.*\n.*Use 85 to 256"),
        (SPOKEN, {"length": 257}, "the subject has 256 positions"),
        (Vocabulary(352, 40, encode), {}, "needs 85 positions; the subject has 40"),
    ],
)
def test_bad_input_is_refused(vocabulary: Vocabulary, parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(HarnessError, match=message):
        write(vocabulary, **parameters)
