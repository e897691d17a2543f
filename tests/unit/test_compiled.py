"""Compiled programs: the models do what the programs say, and only by the units of the program."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from harness_plugins.batches.own_task import OwnTask
from harness_plugins.subjects.compiled.model import Programs
from harness_plugins.subjects.compiled.programs import ANSWERS, BRACKETS, NAMES, PROGRAMS, SYMBOLS, Name
from harness_plugins.subjects.compiled.task import examples
from harness_plugins.subjects.compiled.verify import answers_right, verified
from jaxtyping import Float

from harness import HarnessError, HookedSubject, Tokens, Vocabulary, method, rng_for
from harness.data.sampling import Group


def subject_of(program: Name, units: str = "all") -> HookedSubject:
    subject = method("subject", "compiled", program=program, units=units)()
    assert isinstance(subject, HookedSubject)
    return subject


def evaluated(
    subject: HookedSubject, batch: Tokens, groups: list[Group], intervention: str = "zero"
) -> Float[np.ndarray, "metrics groups examples"]:
    """Accuracy and target logit under the ablation of each group."""
    metrics = [method("metric", name) for name in ("accuracy", "target_logit")]
    return subject.evaluate(batch, groups, method("intervention", intervention), metrics)


def prefix(text: str) -> np.ndarray:
    return np.array([[BRACKETS.index(letter) for letter in text]])


@pytest.mark.parametrize(
    ("program", "text", "answer"),
    [
        ("reverse", ")(([", ")"),
        ("hist", "([((", "3"),
        ("count", "([(])", "2"),
        ("previous", "([])", "]"),
        ("induction", "([([(", "["),
        ("double_hist", "(()(", "1"),  # occurrences 1 2 1 3: only the last one is a third
        ("double_hist", "()[(", "1"),
        ("double_hist", "(())", "2"),  # 1 2 1 2
        ("same_ends", "([](", "yes"),
        ("maximum", "([(])", "]"),
        ("pair_balance", "()[)", ")"),
        ("pair_balance", "()[]", "="),
        ("shuffle_dyck", "([)]", "yes"),  # kinds may cross
        ("shuffle_dyck", ")(", "no"),
    ],
)
def test_programs_answer_by_hand(program: Name, text: str, answer: str) -> None:
    assert ANSWERS[program][PROGRAMS[program](prefix(text))[0]] == answer


def test_a_tie_has_no_answer() -> None:
    assert PROGRAMS["induction"](prefix("()([("))[0] == -1
    assert PROGRAMS["induction"](prefix("()[]"))[0] == -1


@pytest.mark.parametrize("program", NAMES)
def test_the_model_gives_the_answers_of_the_program(program: Name) -> None:
    assert answers_right(program, every=211)[1] == 1


@pytest.mark.slow  # 87,296 sequences each
@pytest.mark.parametrize("program", NAMES)
def test_what_is_verified_of_a_program_is_so_on_every_sequence(program: Name) -> None:
    about = subject_of(program).about
    assert about["verified"] == verified(program)
    assert about["verified"]["answers_right"] == 1
    assert about["verified"]["changed_by_others"] == 0


@pytest.mark.parametrize("program", NAMES)
def test_only_the_circuit_matters(program: Name) -> None:
    subject = subject_of(program)
    batch = examples(program, 64, rng_for(0, "compiled"))
    circuit = tuple(np.flatnonzero([name == program for name in subject.truth.classes]).tolist())
    others = tuple(np.flatnonzero([name is None for name in subject.truth.classes]).tolist())
    accuracy, logit = evaluated(subject, batch, [(), others, circuit])
    assert (accuracy[:2] == 1).all()
    np.testing.assert_array_equal(logit[1], logit[0])  # other programs write into streams of their own
    assert accuracy[2].mean() < 0.6
    each = evaluated(subject, batch, [(unit,) for unit in circuit])[1]
    assert (np.abs(each - logit[0]).max(axis=1) > 0.05).all()  # no unit of the circuit is idle


def test_units_are_those_of_all_programs() -> None:
    subject = subject_of("hist")
    assert Counter(unit.family for unit in subject.units.units) == {"head": 23, "mlp": 30}
    assert subject.truth.circuits == {"hist"}
    assert subject.about["circuits"] == {"hist": ["L1.hist.H0", "L1.hist.mlp"]}  # what boards hold candidates against
    heads = subject_of("hist", "heads")
    assert len(heads.units) == 23
    assert "attention" in heads.sources
    assert "attention" not in subject.sources


def test_later_tokens_change_nothing() -> None:
    model = Programs("shuffle_dyck")
    ids = torch.from_numpy(rng_for(1, "compiled").integers(0, len(SYMBOLS), (16, 9)))
    torch.testing.assert_close(model(ids)[:, :5], model(ids[:, :5]), rtol=0, atol=1e-5)


def test_attention_of_the_induction_head_is_on_what_followed() -> None:
    subject = subject_of("induction", "heads")
    tokens = np.pad(1 + prefix("([])("), ((0, 0), (1, 0)))
    batch = Tokens("one", tokens, np.array([5]), np.array([3]), {"self": np.array([[5]])}, "answer")
    heads = subject.units.find(["L2.induction.H0"])
    recording = subject.record(batch, {"max": method("signal", "max_attention")})
    assert recording.readings["max"][0, heads[0]] == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("program", NAMES)
def test_examples_have_equally_frequent_answers_and_near_counterfactuals(program: Name) -> None:
    batch = examples(program, 64, rng_for(2, "compiled"))
    assert batch.counterfactual is not None
    assert (
        len({(tuple(row), query) for row, query in zip(batch.tokens.tolist(), batch.query.tolist(), strict=True)}) == 64
    )
    assert (batch.counterfactual.target != batch.target).all()
    assert ((batch.counterfactual.content != batch.tokens).sum(axis=1) >= 1).all()
    sizes = Counter(batch.target.tolist())
    rare = {"hist": {"8": 4}, "count": {"8": 1}, "maximum": {"(": 5}}.get(program, {})  # fewer sequences than a share
    for word, size in rare.items():
        assert sizes.pop(SYMBOLS.index(word)) == size
    assert max(sizes.values()) - min(sizes.values()) <= 1


def test_more_examples_than_sequences_are_refused() -> None:
    with pytest.raises(HarnessError, match="induction has 47348 different examples"):
        examples("induction", 50_000, rng_for(0, "compiled"))


def test_a_subject_without_a_task_is_refused() -> None:
    with pytest.raises(HarnessError, match="not made for one task"):
        OwnTask()(Vocabulary(100, 10))
