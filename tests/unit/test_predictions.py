"""Example predictions: which examples, how prompts are shortened, and what the model predicts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from harness.cells.cell import Cell
from harness.cells.predictions import LONGEST, MostLikely, chosen, prompt, token
from harness.cells.progress import Progress
from harness.data.batch import Vocabulary
from harness.data.contracts import no_tick
from harness.data.tokens import Tokens
from harness.pipeline import run_cell
from harness.registry.config import registry, resolve
from harness.util.cache import Memo


def letters(ids: list[int]) -> str:
    return "".join(chr(index) for index in ids)


TEXT = Vocabulary(0x110000, 10**6, decode=letters)


def written(text: str, anchors: dict[str, list[int]] | None = None) -> Tokens:
    """One example: a character per token, the query at the end."""
    ids = np.array([[ord(character) for character in text]])
    places = {name: np.array([each]) for name, each in (anchors or {}).items()}
    return Tokens("text", ids, np.array([len(text) - 1]), np.array([ord("!")]), places, "next")


def test_the_most_damaged_examples_come_first_then_those_next_to_the_median() -> None:
    damage = np.array([0.0, 9, 1, 8, 2, 7, 3, 6, 4, 5, -1])  # median 4
    assert damage[chosen(damage)].tolist() == [9, 8, 7, 6, 5, 4, 3]


def test_of_few_examples_each_is_chosen_once() -> None:
    assert sorted(chosen(np.array([1.0, 0.0, 2.0]))) == [0, 1, 2]


def test_a_short_prompt_is_shown_whole_and_without_padding() -> None:
    batch = replace(written("a short prompt......"), query=np.array([13]))
    assert prompt(batch, 0, TEXT) == "a short prompt"


def test_of_a_long_prompt_the_anchors_and_the_end_are_shown() -> None:
    text = f"{'x' * 300}ANCHOR{'y' * 300}QUERY"
    shown = prompt(written(text, {"induction": [303]}), 0, TEXT)
    assert len(shown) <= LONGEST
    assert shown.startswith("… x")
    assert "ANCHOR" in shown
    assert " … " in shown
    assert shown.endswith("yQUERY")


def test_a_long_prompt_with_more_anchors_than_fit_still_ends_at_the_query() -> None:
    shown = prompt(written("abcdefghij" * 100, {"all": list(range(0, 1000, 5))}), 0, TEXT)
    assert shown.startswith("ab … ef")
    assert shown.endswith("ij")


def test_text_is_in_one_line_and_can_be_shown() -> None:
    assert prompt(written("a\nb\x07c\t"), 0, TEXT) == "a⏎b\ufffdc\ufffd"
    assert token(ord("q"), TEXT) == "q"
    assert token(ord(" "), TEXT) == "token 32"
    assert token(7, TEXT) == "token 7"


def test_without_a_tokenizer_tokens_are_numbers() -> None:
    vocabulary = Vocabulary(200, 10)
    assert prompt(written("AB"), 0, vocabulary) == "65 66"
    assert token(65, vocabulary) == "65"


CLOSE = (
    "subject=tiny",
    "batch.n=24",
    "batch.length=48",
    "controls.n=19",
    "group=[L0H0,L0H7,L1H2]",
    "intervention=mean",
)


@pytest.fixture(scope="module")
def outcome() -> Any:
    """The chain of the embedded model, ablated."""
    cell = Cell.of(resolve(CLOSE, registry()), registry())
    return cell, run_cell(cell, Memo(), Progress(quiet=True))


def test_predictions_are_the_most_likely_tokens_without_and_with_ablation(outcome: Any) -> None:
    cell, result = outcome
    subject = cell.stages["subject"]()
    batch = cell.stages["batch"](subject.reads)
    examples = result.record.candidates[0].examples
    assert len(examples) == 7
    group = subject.units.find(("L0H0", "L0H7", "L1H2"))
    metrics = [registry().get("metric", "accuracy").build({}), MostLikely()]
    right, likely = subject.evaluate(batch, [(), group], cell.stages["intervention"], metrics, no_tick, batch)
    change = result.tested[0].deltas[0, 0]
    for shown in examples:
        place = shown.example
        assert shown.answer == token(int(batch.target[place]), subject.reads)
        assert shown.before == token(int(likely[0, place]), subject.reads)
        assert shown.after == token(int(likely[1, place]), subject.reads)
        assert likely[0, place] == batch.target[place] or not right[0, place]
        assert shown.change == pytest.approx(change[place])
    assert [shown.change for shown in examples[:5]] == sorted(change.tolist())[:5]  # the target logit falls
    assert all(shown.before == shown.answer != shown.after for shown in examples)  # the chain does this task


def test_a_proposal_has_no_predictions() -> None:
    cell = Cell.of(resolve([*CLOSE[:-2], "reruns=1"], registry()), registry())
    result = run_cell(cell, Memo(), Progress(quiet=True), test=False)
    assert all(not candidate.examples for candidate in result.record.candidates)
