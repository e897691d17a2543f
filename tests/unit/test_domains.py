"""Examples of three domains: held-out text, and an answer that stands earlier in it exactly once."""

from __future__ import annotations

import ast
import io
import tokenize
from typing import Any

import numpy as np
import pytest

from harness.data.batch import Vocabulary
from harness.data.corpus import python_documentation
from harness.data.python_source import is_held_out, python_source
from harness.data.tokens import Tokens
from harness.registry.config import registry
from harness.util.errors import HarnessError

pytestmark = pytest.mark.unchecked

BYTES = Vocabulary(256, 128, lambda text: list(text.encode()), lambda ids: bytes(ids).decode(errors="replace"))
N = 60


def write(vocabulary: Vocabulary = BYTES, **parameters: Any) -> Tokens:
    batch: Tokens = registry().get("batch", "domains").build({"n": N, **parameters})(vocabulary)
    return batch


@pytest.fixture(scope="module")
def batch() -> Tokens:
    return write()


def test_each_domain_has_a_third_of_the_examples(batch: Tokens) -> None:
    names, counts = np.unique(batch.groups["domain"], return_counts=True)
    assert dict(zip(names.tolist(), counts.tolist(), strict=True)) == {"english": 20, "code": 20, "repeats": 20}
    assert sorted(np.unique(write(n=8).groups["domain"], return_counts=True)[1]) == [2, 3, 3]


def test_the_answer_follows_the_only_earlier_occurrence_of_the_last_two_tokens(batch: Tokens) -> None:
    for tokens, query, target in zip(batch.tokens.tolist(), batch.query.tolist(), batch.target.tolist(), strict=True):
        pair = tokens[query - 1 : query + 1]
        (earlier,) = [i for i in range(1, query) if tokens[i - 1 : i + 1] == pair]
        assert query - earlier >= 6
        assert tokens[earlier + 1] == tokens[query + 1] == target != tokens[query]


def test_anchors_are_at_the_earlier_pair(batch: Tokens) -> None:
    row = np.arange(N)
    first = batch.anchors["duplicate-token"][:, 0]
    assert (batch.tokens[row, first] == batch.tokens[row, batch.query]).all()
    assert (batch.anchors["induction"][:, 0] == first + 1).all()


def test_the_counterfactual_has_another_earlier_answer_as_the_only_difference(batch: Tokens) -> None:
    other, row = batch.counterfactual_batch, np.arange(N)
    answer = batch.anchors["induction"][:, 0]
    assert (np.argwhere(other.tokens != batch.tokens) == np.stack([row, answer], axis=1)).all()
    assert (other.tokens[row, answer] == other.target).all()
    assert (other.target != batch.target).all()


def test_text_is_held_out_and_a_document_stays_in_its_domain(batch: Tokens) -> None:
    held_out = {
        "english": [text.encode() for text in python_documentation() if is_held_out(text)],
        "code": [text.encode() for text in python_source(held_out=True)],
    }
    for tokens, domain, document in zip(batch.tokens, batch.groups["domain"], batch.groups["document"], strict=True):
        if domain != "repeats":
            assert bytes(tokens.tolist()) in held_out[domain][int(document.removeprefix(f"{domain} "))]


def test_repeats_are_different_tokens_written_again(batch: Tokens) -> None:
    rows = batch.groups["domain"] == "repeats"
    distance = (batch.query - batch.anchors["duplicate-token"][:, 0])[rows]
    assert len(set(distance.tolist())) > 5
    for tokens, copy in zip(batch.tokens[rows], distance, strict=True):
        assert 16 <= copy <= 32
        assert len(set(tokens.tolist())) == copy
        assert (tokens[copy:] == tokens[:-copy]).all()


def test_a_seed_draws_other_examples_and_the_same_seed_the_same(batch: Tokens) -> None:
    assert write().digest == batch.digest != write(seed=1).digest


@pytest.mark.parametrize(
    ("vocabulary", "parameters", "message"),
    [
        (Vocabulary(256, 128), {}, "needs a tokenizer"),
        (Vocabulary(256, 20, BYTES.encode), {}, "needs 24 positions; the subject has 20"),
        (BYTES, {"n": 300_000}, r"held-out english gives \d+ examples of 64 tokens; 100000 were requested"),
        (Vocabulary(5, 128, lambda text: [ord(c) % 5 for c in text]), {}, "6 different tokens"),
    ],
)
def test_bad_input_is_refused(vocabulary: Vocabulary, parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(HarnessError, match=message):
        write(vocabulary, **parameters)


def test_source_has_no_docstrings_and_no_comments_and_is_code() -> None:
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for source in python_source(held_out=True):
        nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, documented)]
        assert all(ast.get_docstring(node) is None for node in nodes)
        tokens = tokenize.generate_tokens(io.StringIO(source).readline)
        assert not any(token.type == tokenize.COMMENT for token in tokens)


def test_one_module_in_sixteen_is_held_out() -> None:
    names = [f"module_{i}" for i in range(4000)]
    assert abs(sum(map(is_held_out, names)) - 250) < 60  # four standard deviations
