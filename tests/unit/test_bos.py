"""Examples that begin with a beginning-of-sequence token."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from harness.data.batch import Beginning, Vocabulary
from harness.data.recording import Recording, Rows
from harness.data.tokens import Tokens, with_bos
from harness.data.units import UnitSpace
from harness.engine.tokenizer import beginning_of
from harness.registry.config import registry, resolve
from harness.util.errors import HarnessError

BOS = 1
WITHOUT = Vocabulary(500, 128, lambda text: [int(word) for word in text.split()])
BEGUN, OPTIONAL = (replace(WITHOUT, beginning=partial(Beginning, BOS, default)) for default in (True, False))
BATCHES: dict[str, dict[str, Any]] = {
    "synthetic_induction": {"n": 8, "length": 48},
    "random_repeat": {"n": 8, "length": 32},
    "natural_text": {"n": 8, "length": 40, "min_id": 3, "seed": None, "windows": "first"},
}


@pytest.fixture
def text(tmp_path: Any) -> str:
    rng = np.random.default_rng(0)
    documents = [" ".join(map(str, rng.integers(3, 30, 80))) for _ in range(40)]
    (tmp_path / "numbers.txt").write_text("\f".join(documents))
    return str(tmp_path / "numbers.txt")


def batch(name: str, text: str, vocabulary: Vocabulary = OPTIONAL, **parameters: Any) -> Tokens:
    given = {**BATCHES[name], **({"text": text} if name == "natural_text" else {}), **parameters}
    made: Tokens = registry().get("batch", name).build(given)(vocabulary)
    return made


@pytest.mark.parametrize("name", BATCHES)
def test_null_does_what_the_tokenizer_does_and_says_so(name: str, text: str) -> None:
    plain = batch(name, text, WITHOUT)
    assert plain.notes["bos"] == "none (the subject has no tokenizer)"
    optional, begun = batch(name, text, OPTIONAL), batch(name, text, BEGUN)
    assert (optional.digest, optional.notes["bos"]) == (plain.digest, "none (default of the tokenizer)")
    assert begun.notes["bos"] == "1 (default of the tokenizer)"
    assert begun.digest == batch(name, text, OPTIONAL, bos=True).digest != plain.digest
    assert batch(name, text, BEGUN, bos=False).digest == plain.digest


@pytest.mark.parametrize("name", BATCHES)
def test_queries_and_anchors_stay_on_their_tokens(name: str, text: str) -> None:
    """The examples are those of a batch without BOS whose text is one token shorter, moved by one."""
    begun = batch(name, text, bos=True)
    shorter = {} if name == "random_repeat" else {"length": BATCHES[name]["length"] - 1}  # its length counts copies
    plain = batch(name, text, bos=False, **shorter)
    assert (begun.tokens[:, 0] == BOS).all()
    np.testing.assert_array_equal(begun.tokens[:, 1:], plain.tokens)
    np.testing.assert_array_equal(begun.target, plain.target)
    row = np.arange(len(begun))[:, None]
    assert begun.counterfactual is not None
    assert plain.counterfactual is not None
    np.testing.assert_array_equal(begun.counterfactual.content[:, 1:], plain.counterfactual.content)
    assert (begun.counterfactual.content[:, 0] == BOS).all()
    for anchor, places in begun.anchors.items():
        if anchor == "first-token":
            assert not places.any(), "heads attend to the first position, whatever stands there"
        else:
            np.testing.assert_array_equal(
                begun.tokens[row, places], plain.tokens[row, plain.anchors[anchor]], err_msg=anchor
            )
    np.testing.assert_array_equal(begun.tokens[row[:, 0], begun.query], plain.tokens[row[:, 0], plain.query])
    if name != "random_repeat":
        assert begun.tokens.shape[1] == BATCHES[name]["length"]


@pytest.mark.parametrize("name", BATCHES)
def test_examples_fit_into_the_context(name: str, text: str) -> None:
    small = replace(BEGUN, context=64)
    made = batch(name, text, small, **({} if name == "random_repeat" else {"length": None}))
    assert made.query.max() < 64
    made.check(small)


@pytest.mark.parametrize("baseline", ["others", "drawn"])
def test_the_survey_finds_the_class_of_each_head_after_a_bos(baseline: str) -> None:
    """Heads that attend to one anchor of the batch only are of its class."""
    made = batch("synthetic_induction", "", bos=True)
    classes = [name for name in made.anchors if name != "local"]
    attention = np.full((len(made), len(classes), made.tokens.shape[1]), 1e-4, dtype=np.float32)
    for head, name in enumerate(classes):
        attention[np.arange(len(made)), head, made.anchors[name][:, 0]] = 0.9
    survey = registry().get("labels", "survey").build({"baseline": baseline})
    rows = Rows("attention", "L0.attn", attention, made, made, np.arange(len(made)))
    units = UnitSpace.heads([len(classes)])
    labels = survey(Recording(made, units, {"labels": survey.read(rows)}))
    assert list(labels.classes) == classes


def test_a_bos_that_does_not_exist_is_refused() -> None:
    for vocabulary, why in ((WITHOUT, "no tokenizer"), (replace(WITHOUT, beginning=lambda: None), "without BOS")):
        with pytest.raises(HarnessError, match=rf"batch\.bos=true: the subject has .*{why}") as caught:
            batch("random_repeat", "", vocabulary, bos=True)
        assert caught.value.fix == "Leave it out: batch.bos=null"


def test_the_least_length_that_works_is_told() -> None:
    with pytest.raises(HarnessError, match=r"needs 43 positions; batch\.length has 42") as caught:
        batch("synthetic_induction", "", length=42, bos=True)
    assert "batch.length=43" in caught.value.fix
    assert batch("synthetic_induction", "", length=43, bos=True).tokens.shape == (8, 43)


def test_a_batch_without_bos_is_itself() -> None:
    made = batch("random_repeat", "")
    assert with_bos(made, None) is made


def test_tokenizers_say_what_they_do_by_default(saved: Any) -> None:
    """The fixture's tokenizer begins every text with <s>; the same without its template does not."""
    from transformers import AutoTokenizer

    assert beginning_of(AutoTokenizer.from_pretrained(saved)) == Beginning(0, by_default=True)
    file = saved / "tokenizer.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "post_processor": None}))
    tokenizer = AutoTokenizer.from_pretrained(saved)
    assert beginning_of(tokenizer) == Beginning(0, by_default=False)
    tokenizer.bos_token = None
    assert beginning_of(tokenizer) is None


def test_tiny_and_the_paper_preset_have_no_bos() -> None:
    subject = registry().get("subject", "tiny").build({})()
    assert subject.reads.bos(None) == (None, "none (default of the tokenizer)")
    for words in (["preset=paper"], *([f"experiment=paper_{i}"] for i in range(1, 6))):
        assert resolve(words, registry())["batch"]["bos"] is False
