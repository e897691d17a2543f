"""Prompts from files: every form, and every row that is refused."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.data.batch import Vocabulary
from harness.data.prompts import Prompt, Writer
from harness.data.tokens import Tokens
from harness.registry.config import registry
from harness.util.errors import HarnessError
from tests.unit.tokenizers import tokenizer

CLEAN, OTHER = "When Mary and John met, John spoke to", "When Mary and John met, Mary spoke to"
ROW = {"clean": CLEAN, "counterfactual": OTHER, "answers": [" Mary"], "wrong_answers": [" John"]}


def batch_of(path: Path, vocabulary: Any = None, **parameters: Any) -> Tokens:
    method = registry().get("batch", "prompts").build({"path": str(path), **parameters})
    method.check_files()
    batch: Tokens = method(vocabulary or tokenizer())
    return batch


def saved(folder: Path, rows: Sequence[Any], form: str = "jsonl") -> Path:
    path = folder / f"prompts.{form}"
    if form == "jsonl":
        path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    elif form == "json":
        path.write_text(json.dumps(rows), encoding="utf-8")
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            table = csv.DictWriter(file, list(rows[0]))
            table.writeheader()
            table.writerows(rows)
    return path


def refusal(folder: Path, *rows: Any, form: str = "jsonl", **parameters: Any) -> HarnessError:
    with pytest.raises(HarnessError) as refused:
        batch_of(saved(folder, rows, form), **parameters)
    assert refused.value.fix
    return refused.value


# -- what a row means


@pytest.mark.parametrize("form", ["jsonl", "json", "csv"])
def test_the_three_kinds_of_file_give_the_same_batch(form: str, tmp_path: Path) -> None:
    rows = [ROW, {**ROW, "answers": [" Mary", " Maria"]}]
    written = [{**row, "answers": json.dumps(row["answers"]), "wrong_answers": " John"} for row in rows]
    batch = batch_of(saved(tmp_path, written if form == "csv" else rows, form))
    assert batch.digest == batch_of(saved(tmp_path, rows)).digest
    assert batch.notes["form"] == "harness"
    assert batch.answers is not None
    assert batch.answers.right.shape == (2, 2)
    assert batch.answers.right[0, 1] == -1


def test_single_answers_are_targets_without_sets(tmp_path: Path) -> None:
    vocabulary = tokenizer()
    batch = batch_of(saved(tmp_path, [ROW]), vocabulary)
    encode = vocabulary.encode
    assert encode is not None
    assert batch.counterfactual is not None
    assert batch.answers is None
    assert batch.tokens[0].tolist() == encode(CLEAN)
    assert batch.counterfactual.content[0].tolist() == encode(OTHER)
    assert [batch.target[0], batch.counterfactual.target[0]] == [*encode(" Mary"), *encode(" John")]


def test_wrong_answers_without_a_counterfactual_are_a_set(tmp_path: Path) -> None:
    batch = batch_of(saved(tmp_path, [{"clean": CLEAN, "answers": " Mary", "wrong_answers": " John"}]))
    assert batch.counterfactual is None
    assert batch.answers is not None


def test_token_ids_give_the_batch_of_their_text(tmp_path: Path) -> None:
    vocabulary = tokenizer()
    assert vocabulary.encode is not None
    expected = batch_of(saved(tmp_path, [ROW]), vocabulary)
    encode = vocabulary.encode
    ids = {"clean": encode(CLEAN), "counterfactual": encode(OTHER), "answers": encode(" Mary")}
    batch = batch_of(saved(tmp_path, [{**ids, "wrong_answers": encode(" John")}]), vocabulary)
    assert batch.digest == expected.digest


def test_positions_and_documents_become_anchors_and_groups(tmp_path: Path) -> None:
    row = {**ROW, "positions": {"S2": 6}, "document": "a"}
    batch = batch_of(saved(tmp_path, [row, {**row, "document": "b"}]))
    assert batch.anchors["S2"].tolist() == [[6], [6]]
    assert batch.groups["document"].tolist() == ["a", "b"]


def test_padding_is_before_the_shorter_one_and_moves_positions(tmp_path: Path) -> None:
    longer = {**ROW, "counterfactual": OTHER.replace("met", "had met"), "positions": {"S2": 6}}
    batch = batch_of(saved(tmp_path, [longer, {**ROW, "positions": {"S2": 6}}]), pad=7)
    assert batch.counterfactual is not None
    assert batch.tokens[0, 0] == 7
    assert batch.query.tolist() == [9, 8]
    assert batch.anchors["S2"].tolist() == [[7], [6]]
    assert (batch.notes["padded"], batch.notes["pad"]) == (1, 7)


def test_the_first_token_of_a_long_answer_counts_if_asked(tmp_path: Path) -> None:
    row = {**ROW, "answers": [" Mary Ann"]}
    batch = batch_of(saved(tmp_path, [row]), first_token=True)
    assert batch.target.tolist() == batch_of(saved(tmp_path, [ROW])).target.tolist()
    assert batch.notes["first_tokens"] == 1


def test_n_prompts_are_drawn_in_the_order_of_the_file(tmp_path: Path) -> None:
    rows = [{**ROW, "document": str(i)} for i in range(20)]
    drawn = [int(name) for name in batch_of(saved(tmp_path, rows), n=8).groups["document"]]
    assert drawn == sorted(set(drawn))
    assert len(drawn) == 8
    assert "has 20 prompts" in refusal(tmp_path, *rows, n=21).what


# -- files of other projects


def test_forms_of_other_projects_give_the_same_batch(tmp_path: Path) -> None:
    vocabulary = tokenizer()
    assert vocabulary.encode is not None
    mary, john = (vocabulary.encode(name)[0] for name in (" Mary", " John"))
    expected = batch_of(saved(tmp_path, [ROW]), vocabulary).digest
    mib = {"prompt": CLEAN, "choices": ["Mary", "John"], "answerKey": 0, "metadata": {}}
    flipped = {"prompt": OTHER, "choices": ["Mary", "John"], "answerKey": 1}
    circuit = {"clean": CLEAN, "corrupt": OTHER, "answers": [" Mary"], "wrong_answers": [" John"]}
    files: dict[str, Path] = {}
    for name, content, form in (
        ("EAP-IG ids", [{"clean": CLEAN, "corrupted": OTHER, "correct_idx": mary, "incorrect_idx": john}], "csv"),
        ("EAP-IG", [{"clean": CLEAN, "corrupted": OTHER, "label": "[' Mary', ' John']"}], "csv"),
        ("auto-circuit", {"prompts": [circuit]}, "json"),
        ("MIB", [{**mib, "s2_io_flip_counterfactual": flipped}], "jsonl"),
    ):  # fmt: skip
        (tmp_path / name).mkdir()
        files[name] = saved(tmp_path / name, content, form)
    for name, path in files.items():
        batch = batch_of(path, vocabulary)
        assert batch.digest == expected, name
        assert batch.notes["form"] == name.removesuffix(" ids")


def test_positions_of_auto_circuit_hold_for_every_prompt(tmp_path: Path) -> None:
    prompt = {"clean": CLEAN, "corrupt": OTHER, "answers": [" Mary"], "wrong_answers": [" John"]}
    content: Any = {"word_idxs": {"S2": 6}, "seq_labels": ["a"], "prompts": [prompt, prompt]}
    assert batch_of(saved(tmp_path, content, "json")).anchors["S2"].tolist() == [[6], [6]]


def test_lettered_choices_of_mib_are_wrong_by_the_counterfactual(tmp_path: Path) -> None:
    vocabulary = tokenizer()
    choices = {"label": ["A", "B", "C"], "text": ["red", "blue", "green"]}
    row = {"prompt": "The box is red. A red B blue C green Answer:", "choices": choices, "answerKey": 0}
    other = {"prompt": "The box is red. C red B blue A green Answer:", "choices": choices, "answerKey": 2}
    batch = batch_of(saved(tmp_path, [{**row, "symbol_counterfactual": other}]), vocabulary)
    assert vocabulary.encode is not None
    assert batch.counterfactual is not None
    assert [batch.target[0], batch.counterfactual.target[0]] == [vocabulary.encode(" A")[0], vocabulary.encode(" C")[0]]
    two = {**row, "symbol_counterfactual": other, "random_counterfactual": other}
    assert "batch.counterfactual=symbol_counterfactual" in refusal(tmp_path, two).what
    assert len(batch_of(saved(tmp_path, [two]), counterfactual="random")) == 1


# -- rows that are refused


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"counterfactual": OTHER.replace("met", "had met")}, r"has 9 tokens and its counterfactual 10"),
        ({"counterfactual": CLEAN}, "the same tokens as the prompt"),
        ({"answers": [" Mary Ann"]}, r"' Mary Ann' is 2 tokens, ' Mary' ' Ann'"),
        ({"answers": [" John", " Mary"]}, r"' John' is a right answer and a wrong one"),
        ({"answers": ["Mary"]}, r"would continue the last word of the prompt, 'to'"),
        ({"answers": []}, "has no right answer"),
        ({"wrong_answers": []}, "no wrong answer"),
        ({"answers": [1.5]}, "neither text nor a token id"),
        ({"clean": 5}, "neither text nor a list of token ids"),
        ({"clean": ""}, "the prompt is empty"),
        ({"positions": {"S2": 40}}, "the position of 'S2' is 40; the prompt has 9 tokens"),
        ({"counterfactual": None}, "has no counterfactual, and .*row 1 has one"),
    ],
)
def test_a_row_is_refused_by_its_number(change: dict[str, Any], reason: str, tmp_path: Path) -> None:
    refused = refusal(tmp_path, ROW, {**ROW, **change})
    assert "row 2" in refused.what
    assert re.search(reason, refused.what), refused.what


def test_the_tokens_that_differ_are_named(tmp_path: Path) -> None:
    refused = refusal(tmp_path, {**ROW, "counterfactual": CLEAN.replace("John spoke", "Mary Ann spoke")})
    assert "they differ in ' John' and ' Mary' ' Ann'" in refused.what
    assert "batch.pad=" in refused.fix


def test_a_word_that_was_put_in_is_named_alone(tmp_path: Path) -> None:
    refused = refusal(tmp_path, {**ROW, "counterfactual": OTHER.replace("Mary spoke", "Mary Ann spoke")})
    assert "they differ in ' John' and ' Mary' ' Ann'" in refused.what
    refused = refusal(tmp_path, {**ROW, "counterfactual": CLEAN.replace("John spoke", "John Ann spoke")})
    assert "they differ in nothing and ' Ann'" in refused.what


def test_answers_with_one_first_token_are_refused(tmp_path: Path) -> None:
    row = {**ROW, "answers": [" Mary Ann"], "wrong_answers": [" Mary Lou"]}
    assert "both begin with this token" in refusal(tmp_path, row, first_token=True).what


@pytest.mark.parametrize(
    ("rows", "form", "reason"),
    [
        ([{"text": "a"}], "jsonl", "its columns are text: no known form"),
        ([{"clean": "a", "corrupted": "b", "correct_idx": 5}], "csv", "which answers are wrong is not in the file"),
        ([{"clean": "a", "corrupted": "b", "label": 17}], "csv", "which answers are wrong is not in the file"),
        ([{"clean": "a", "corrupted": "b", "correct_idx": "x", "incorrect_idx": 1}], "csv", "not a whole number"),
        ([], "jsonl", "it has no rows"),
        ([3], "jsonl", "line 1 is not an object"),
        ({"a": 1}, "json", "not a list of rows"),
    ],
)
def test_files_of_no_known_form_are_refused(rows: Any, form: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=reason) as refused:
        batch_of(saved(tmp_path, rows, form))
    assert "auto-circuit" in refused.value.fix


def test_no_file_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="no file is given"):
        registry().get("batch", "prompts").build({}).check_files()
    with pytest.raises(HarnessError, match="does not exist"):
        batch_of(tmp_path / "none.jsonl")


def test_text_needs_a_tokenizer() -> None:
    with pytest.raises(HarnessError, match="this subject has no tokenizer"):
        Writer(Vocabulary(100, 100)).batch("prompts", [Prompt("a b", (1,), where="row 1")])


def test_an_answer_is_not_the_counterfactuals_own_if_the_batch_is_swapped(tmp_path: Path) -> None:
    """Other answers (for "does the model do the task?") and donors: right and wrong change places."""
    rows = [{**ROW, "answers": [" Mary", " Maria"]}]
    batch = batch_of(saved(tmp_path, rows))
    other = batch.with_other_answers(0)
    assert batch.answers is not None
    assert other.answers is not None
    np.testing.assert_array_equal(other.answers.right, batch.answers.wrong)
    assert batch.counterfactual_batch.counterfactual_batch.digest == batch.digest
    assert other.digest != batch.digest
