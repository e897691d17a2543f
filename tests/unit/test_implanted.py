"""Implanted circuits: every shipped model passes its gate, and tasks, circuits and verdicts are what the card says."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from itertools import product

import numpy as np
import pytest
import torch
from harness_plugins.subjects.implanted.circuits import CIRCUITS, HEADS, MODELS, SEEDS, TASKS, Model, Task, layout
from harness_plugins.subjects.implanted.gate import MOST_OF_DECOYS, Figures, faults_of, measured, rounded
from harness_plugins.subjects.implanted.model import Decoder, config
from harness_plugins.subjects.implanted.subject import WEIGHTS, Implanted
from harness_plugins.subjects.implanted.task import examples, known, specified, words
from harness_plugins.subjects.implanted.train import verified
from safetensors.torch import load_file

import harness
from harness import HarnessError, HeadSubject, Tokens, rng_for

SHIPPED = [*product(MODELS, SEEDS)]
EVERY = [*product(MODELS, TASKS, SEEDS)]


@cache
def subject_of(model: Model, task: Task, seed: int = 0) -> HeadSubject:
    subject = harness.subject("implanted", model=model, task=task, seed=seed)
    assert isinstance(subject, HeadSubject)
    return subject


def made(model: Model, task: Task, n: int = 48) -> Tokens:
    return examples(model, task, n, rng_for(7, "implanted test"))


# -- tasks and circuits ------------------------------------------------------------------------------------------------


def by_hand(text: str, lookups: int) -> str:
    """The answer, read from the words of an example."""
    *content, query = text.split()[1:]
    value = {pair.split("=")[0]: int(pair.split("=")[1]) for pair in content if "=" in pair}
    task, key = query.removesuffix(")").split("(")
    if task == "serial":
        for _ in range(lookups - 1):
            key = f"k{value[key] % 8}"
    elif lookups == 2:
        return f"{value[key] % 8}+{value[f'k{(int(key[1:]) + 4) % 8}'] % 8}"
    return str(value[key])


@pytest.mark.parametrize(("model", "task"), [*product(MODELS, TASKS)])
def test_examples_have_the_answer_that_their_words_say(model: Model, task: Task) -> None:
    batch, lookups = made(model, task, 200), len(CIRCUITS[model][task].lookups)
    assert batch.counterfactual is not None
    other = batch.counterfactual
    for tokens, target in ((batch.tokens, batch.target), (other.content, other.target)):
        answers = [by_hand(words(row), lookups) for row in tokens.tolist()]
        assert answers == [words([answer]) for answer in target.tolist()]
    both = batch.target + other.target
    assert (both == both[0]).all()  # every bit differs, so that the sum has all bits
    kinds = [[word.split("=")[0] for word in words(row).split()] for row in batch.tokens.tolist()]
    others = [[word.split("=")[0] for word in words(row).split()] for row in other.content.tolist()]
    assert kinds == others  # the same keys at the same places


def test_a_bit_is_known_while_one_of_its_readers_works() -> None:
    def bits(model: Model, task: Task, *off: int) -> int:
        circuit = CIRCUITS[model][task]
        works = np.array([[place not in off for place in range(len(circuit.readers))]])
        return int(known(circuit, works)[0])

    assert bits("separate", "parallel") == 0b1111
    assert bits("separate", "parallel", 1) == 0b1101
    assert bits("separate", "serial", 0) == 0  # without the first key, nothing
    assert bits("separate", "serial", 2) == 0b1100
    assert bits("separate", "backup", 0) == 0b1111
    assert bits("separate", "backup", 0, 2) == 0b1100  # both heads of two bits
    assert bits("large", "parallel", 0, 5) == 0b011110
    assert bits("large", "serial", 2) == 0
    spread = specified(CIRCUITS["separate"]["parallel"], np.array([5]), np.array([0b1101]))[0]
    assert [words([token]) for token in np.flatnonzero(spread).tolist()] == ["5", "7"]
    assert spread.max() == 0.5


@pytest.mark.parametrize(("model", "seed"), SHIPPED)
def test_circuits_have_four_to_eight_heads_of_their_own(model: Model, seed: int) -> None:
    heads = layout(model, seed)
    for task in TASKS:
        circuit, decoys = heads.circuit(task), heads.decoys_of(task)
        assert 4 <= len(circuit) <= 8
        assert len(decoys) >= 4
        assert not set(circuit) & set(decoys)
    shared = set.union(*(set(heads.circuit(task)) for task in TASKS))
    assert len(shared) == {"separate": 12, "shared": 8, "large": 20}[model]
    card = Implanted(model=model, seed=seed).card()
    assert {task: set(of["circuit"].values()) for task, of in card["tasks"].items()} == {
        task: {f"L{layer}H{head}" for layer, head in heads.circuit(task)} for task in TASKS
    }


def test_labels_say_the_circuit_and_its_decoys() -> None:
    subject = subject_of("shared", "backup")
    assert subject.truth is not None
    assert subject.truth.circuits == {"backup"}
    assert subject.about["circuits"] == {
        "backup": [u for u, name in zip(subject.units.labels, subject.truth.classes, strict=True) if name == "backup"]
    }
    assert subject.truth.classes.count("decoy") == 4


# -- the shipped models ------------------------------------------------------------------------------------------------


def test_the_trained_decoder_is_that_of_transformers() -> None:
    state = {name: weight.float() for name, weight in load_file(WEIGHTS / "large-0.safetensors").items()}
    decoder = Decoder()
    decoder.load_state_dict(state)
    tokens = torch.from_numpy(made("large", "serial").tokens)
    with torch.no_grad():
        theirs = subject_of("large", "serial").model(tokens).logits[:, -1]
        torch.testing.assert_close(decoder(tokens).logits, theirs, rtol=0, atol=1e-4)
    assert json.loads((WEIGHTS / "config.json").read_text()) == config()


@pytest.mark.parametrize(("model", "task", "seed"), EVERY)
def test_shipped_models_pass_the_gate_on_other_examples(model: Model, task: Task, seed: int) -> None:
    figures = measured(subject_of(model, task, seed), layout(model, seed), task, made(model, task), subsets=2)
    assert not list(replace(figures, lost_without_decoys=0.0).faults)
    assert figures.lost_without_decoys < MOST_OF_DECOYS + 0.1  # on 48 examples, two standard errors


@pytest.mark.slow  # 160 examples, 24 sets of heads, three interventions, for 18 circuits
@pytest.mark.parametrize(("model", "seed"), SHIPPED)
def test_the_gate_has_the_figures_of_the_card(model: Model, seed: int) -> None:
    figures = verified(model, seed, load_file(WEIGHTS / f"{model}-{seed}.safetensors"))
    assert not faults_of(figures)
    for task, of in Implanted(model=model, seed=seed).card()["tasks"].items():
        assert rounded(figures[task]) == pytest.approx(of["verified"], abs=0.002)


def test_a_model_that_fails_the_gate_is_named_with_its_figures() -> None:
    good = Figures(
        accuracy=1.0,
        accuracy_alone=1.0,
        accuracy_without_some=1.0,
        logit_difference=10.0,
        share_left_without_circuit=0.0,
        lost_without_decoys=0.0,
    )
    bad = Figures(
        accuracy=1.0,
        accuracy_alone=0.5,
        accuracy_without_some=1.0,
        logit_difference=10.0,
        share_left_without_circuit=0.2,
        lost_without_decoys=0.4,
    )
    assert faults_of({"serial": good, "backup": bad}) == [
        "backup: accuracy alone 0.500 < 0.9",
        "backup: share left without circuit 0.200 > 0.05",
        "backup: lost without decoys 0.400 > 0.3",
    ]


@pytest.mark.parametrize(("model", "task"), [*product(MODELS, TASKS)])
def test_decoys_attend_as_the_heads_that_they_imitate(model: Model, task: Task) -> None:
    subject, heads = subject_of(model, task), layout(model, 0)
    recording = subject.record(made(model, task, 96), {"max": harness.method("signal", "max_attention")})
    attention = recording.readings["max"]
    for reader, (layer, head) in heads.decoys[task].items():
        imitated = heads.readers[task][reader]
        both = attention[:, [layer * HEADS + head, imitated[0] * HEADS + imitated[1]]]
        assert np.corrcoef(both.T)[0, 1] > 0.7


def test_a_seed_that_was_not_trained_is_refused() -> None:
    with pytest.raises(HarnessError, match="implanted seed '7' is not known"):
        harness.subject("implanted", seed=7)


# -- verdicts ----------------------------------------------------------------------------------------------------------


def verdict(model: Model, task: Task, seed: int, intervention: str, group: str) -> str:
    """The verdict on the circuit of a task, or on its decoys."""
    heads = Implanted(model=model, seed=seed).card()["tasks"][task][group].values()
    subject, batch = subject_of(model, task, seed), made(model, task, 64)
    return str(harness.close(subject, sorted(heads), batch, "controls.n=39", intervention=intervention).verdict)


def test_a_circuit_passes_and_its_decoys_do_not() -> None:
    assert verdict("separate", "serial", 0, "mean", "circuit") == "pass"
    assert verdict("separate", "serial", 0, "mean", "decoys") not in ("pass", "weak_pass")


@pytest.mark.slow  # 72 closure tests of circuits, as many of decoys
def test_every_circuit_has_the_verdict_that_its_card_says_and_decoys_pass_in_at_most_5_percent() -> None:
    passed = []
    for model, task, seed in EVERY:
        expected = Implanted(model=model, seed=seed).card()["tasks"][task]["verdicts"]
        found = {name: verdict(model, task, seed, name, "circuit") for name in expected}
        assert found == expected, (model, task, seed)
        passed += [verdict(model, task, seed, name, "decoys") in ("pass", "weak_pass") for name in expected]
    assert sum(passed) <= 0.05 * len(passed)
