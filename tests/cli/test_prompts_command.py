"""Prompts from files and importances from files, by the command line: what runs, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]
CELL = ("subject=tiny", "batch=prompts", "labels=none", "workspace=w")
ROW = {"clean": [30, 31, 32, 30], "counterfactual": [30, 33, 32, 30], "answers": [31], "wrong_answers": [33]}


@pytest.fixture
def write(harness: Run, tmp_path: Path) -> Callable[..., str]:
    def write(*rows: Any, name: str = "p.jsonl") -> str:
        Path(name).write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        return f"batch.path={name}"

    return write


def test_a_group_is_tested_on_prompts_and_the_card_names_two_way_accuracy(harness: Run, write: Any) -> None:
    """`tiny` continues a repeated pair: 30 31 ... 30 -> 31."""
    rows = [
        {
            "clean": [30 + i, 31 + i, 60, 61, 62, 30 + i],
            "counterfactual": [30 + i, 70 + i, 60, 61, 62, 30 + i],
            "answers": [31 + i],
            "wrong_answers": [70 + i],
        }
        for i in range(24)
    ]
    answer = harness("close", "L0H0,L0H7,L1H2", *CELL, write(*rows), "intervention=patching", "controls.n=19")
    assert answer.code == 0
    assert "The model does this task: two-way accuracy" in answer.out
    assert "(chance 0.5)" in answer.out


def test_a_model_that_prefers_neither_answer_is_told_so(harness: Run, write: Any) -> None:
    """The same answers for both orders of two tokens: half of them are wrong, whatever the model prefers."""
    rows = [
        {"clean": [30, 31, 32 + i], "answers": [40 + side], "wrong_answers": [41 - side]}
        for i in range(20)
        for side in (0, 1)
    ]
    answer = harness("close", "L0H0,L0H7,L1H2", *CELL, write(*rows), "intervention=zero", "controls.n=19")
    assert answer.code == 0
    assert "The model does not do this task" in answer.out


def test_bad_rows_are_refused_by_number(harness: Run, write: Any) -> None:
    words = ("close", "L0H0", *CELL)
    equal = harness(*words, write(ROW, {**ROW, "counterfactual": ROW["clean"]}))
    assert (equal.code, equal.out) == (2, "")
    assert "row 2: the counterfactual has the same tokens as the prompt" in equal.err
    text = {"clean": "the cat and the", "answers": [" a", " indescribable"], "wrong_answers": [" b"]}
    longer = harness(*words, write({**text, "answers": [" a"]}, text))
    assert longer.code == 2
    assert "row 2: the answer ' indescribable' is" in longer.err
    assert "batch.first_token=true" in longer.err
    missing = harness(*words, "batch.path=none.jsonl")
    assert (missing.code, missing.out) == (2, "")
    assert "batch.path=none.jsonl: the file does not exist" in missing.err


def test_a_tokenizer_that_splits_every_name_is_refused(harness: Run) -> None:
    answer = harness("run", "subject=tiny", "batch=ioi", "labels=none", "workspace=w")
    assert (answer.code, answer.out) == (2, "")
    assert "names that are one token each; the subject's tokenizer has" in answer.err


def test_importances_go_out_and_in_and_those_of_another_model_are_refused(harness: Run) -> None:
    task = ("subject=tiny", "batch=random_repeat", "batch.n=16", "labels=none", "workspace=w")
    assert harness("ranking", *task, "signal=output_norm", "out=a.json").code == 0
    ranked = ("experiment=curve", "partitioner.sizes=[4]")
    names = [
        json.loads(harness("propose", *task, *ranked, *signal, "--json").out)["candidates"][0]["units"]
        for signal in (("signal=output_norm",), ("signal=precomputed", "signal.path=a.json"))
    ]
    assert names[0] == names[1]
    nodes = json.loads(Path("a.json").read_text())["nodes"]
    Path("b.json").write_text(json.dumps({"nodes": {**nodes, "a9.h0": {"score": 1.0}}}))
    answer = harness("propose", *task, *ranked, "signal=precomputed", "signal.path=b.json")
    assert (answer.code, answer.out) == (2, "")
    assert "it is of another model: it scores L9H0" in answer.err
    assert "ranking writes the scores of one signal" in harness("ranking", *task, "out=a.txt").err
