"""The embedded seeds that retrieve a codeword: what their card says, and how they are stored."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from harness_plugins.subjects.tiny_retrieval.card import card
from harness_plugins.subjects.tiny_retrieval.measure import SELECTIVE, documents, encoded, of_checkpoint
from harness_plugins.subjects.tiny_retrieval.subject import checkpoint_in, loaded, steps_in
from harness_plugins.subjects.tiny_retrieval.train import CODEWORDS, CONTEXT, Recipe, new_model, save, trained
from tokenizers import Tokenizer

from harness.data.batch import Vocabulary
from harness.registry.config import registry
from harness.util.digest import digest
from harness.util.errors import HarnessError

WEIGHTS = Path(__file__).resolve().parents[2] / "plugins/subjects/tiny_retrieval/weights"
HEADS = (8, 2)
LOGS = {h: json.loads((WEIGHTS / f"{h}-heads/training_log.json").read_text(encoding="utf-8")) for h in HEADS}
MODELS = [(heads, seed) for heads in HEADS for seed in range(4)]
STEPS = [row["step"] for row in LOGS[8]["seeds"][0]]
TOKENIZER = Tokenizer.from_file(str(WEIGHTS / "8-heads/tokenizer.json"))
of_every_model = pytest.mark.parametrize(("heads", "seed"), MODELS)


def build(stage: str, name: str, **parameters: Any) -> Any:
    return registry().get(stage, name).build(parameters)


def file_of(heads: int, seed: int) -> Path:
    return WEIGHTS / f"{heads}-heads/seed-{seed}.safetensors"


def rows_of(heads: int, seed: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = LOGS[heads]["seeds"][seed]
    return rows


@pytest.fixture(scope="module")
def held_out() -> tuple[torch.Tensor, float]:
    """Tokens of the held-out text, and how near the log is: other versions of Python have other text."""
    part = documents(held_out=True)
    return encoded(part, TOKENIZER), 2e-3 if digest(part) == LOGS[8]["held_out_digest"] else 0.1


def agree(file: Path, row: dict[str, Any], held_out: tuple[torch.Tensor, float]) -> None:
    ids, near = held_out
    found = of_checkpoint(file, row["step"], ids)
    for name in ("in", "out", "loss"):
        assert found[name] == pytest.approx(row[name], abs=2 * near), name
    if near < 0.01:
        sure = {unit: ratio for unit, ratio in row["heads"].items() if ratio > 1.01 * SELECTIVE}
        assert {unit: found["heads"][unit] for unit in sure} == pytest.approx(sure, rel=0.02)


@pytest.mark.parametrize("heads", HEADS)
def test_the_model_card_has_the_numbers_of_the_log(heads: int) -> None:
    assert card(LOGS[heads]) == (WEIGHTS / f"{heads}-heads/README.md").read_text(encoding="utf-8")


@of_every_model
def test_the_last_checkpoint_has_the_numbers_of_its_log(
    heads: int, seed: int, held_out: tuple[torch.Tensor, float]
) -> None:
    agree(file_of(heads, seed), rows_of(heads, seed)[-1], held_out)


@pytest.mark.slow
@of_every_model
def test_every_number_of_the_card_is_measured_again_from_the_weights(
    heads: int, seed: int, held_out: tuple[torch.Tensor, float]
) -> None:
    for row in rows_of(heads, seed):
        agree(file_of(heads, seed), row, held_out)


@of_every_model
def test_it_learns_to_retrieve_over_gaps_in_and_out_of_distribution_and_to_read_text(heads: int, seed: int) -> None:
    first, *_, last = rows_of(heads, seed)
    assert max(first["in"], first["out"]) < 0.1
    assert last["in"] > 0.98
    assert max(row["out"] for row in rows_of(heads, seed)) > 0.98
    assert last["loss"] < first["loss"] - 2
    assert not first["heads"]
    assert last["heads"]


@of_every_model
def test_retrieval_out_of_distribution_is_partly_lost_again(heads: int, seed: int) -> None:
    out = [row["out"] for row in rows_of(heads, seed)]
    assert out[-1] < max(out) - 0.03  # three standard errors of .96 over 512 examples


@of_every_model
def test_some_checkpoints_stand_between_not_knowing_and_knowing(heads: int, seed: int) -> None:
    accuracy = [row["in"] for row in rows_of(heads, seed)]
    assert any(0.1 < value < 0.95 for value in accuracy)
    assert sum(value < 0.1 for value in accuracy) >= 2
    assert sum(value > 0.98 for value in accuracy) >= 2


def test_four_seeds_have_thirteen_checkpoints_each_and_no_two_are_equal() -> None:
    assert all(steps_in(file_of(*model)) == STEPS == [row["step"] for row in rows_of(*model)] for model in MODELS)
    assert len(STEPS) == 13
    found = {
        build("subject", "tiny_retrieval", heads=heads, seed=seed, checkpoint=step).fingerprint()
        for heads, seed in MODELS
        for step in STEPS
    }
    assert len(found) == len(MODELS) * len(STEPS)


def test_with_few_heads_few_can_stand_in_for_each_other() -> None:
    key_heads = {heads: [len(rows_of(heads, seed)[-1]["heads"]) for seed in range(4)] for heads in HEADS}
    assert max(key_heads[2]) < min(key_heads[8])


def test_all_seeds_together_are_small() -> None:
    assert sum(file.stat().st_size for file in WEIGHTS.glob("*/*")) < 13e6


def test_the_default_is_the_last_checkpoint_of_the_first_seed() -> None:
    method = build("subject", "tiny_retrieval")
    subject = method()
    assert subject.label == subject.about["path"] == "tiny_retrieval-0"
    assert len(subject.units) == 32
    assert next(subject.model.parameters()).dtype == torch.float32
    assert subject.about["weights"] == f"sha256:{method.fingerprint()}"
    assert method.fingerprint() == build("subject", "tiny_retrieval", checkpoint=STEPS[-1]).fingerprint()
    assert subject.about["parameters"] == LOGS[8]["weights"] == sum(p.numel() for p in subject.model.parameters())


def test_seeds_and_checkpoints_that_do_not_exist_are_refused_with_those_that_do() -> None:
    assert len(build("subject", "tiny_retrieval", heads=2)().units) == 8
    with pytest.raises(HarnessError, match=r"tiny_retrieval seed '4' is not known.*\n.*0, 1, 2, 3"):
        build("subject", "tiny_retrieval", seed=4)()
    with pytest.raises(HarnessError, match=rf"tiny_retrieval checkpoint '7' is not known.*\n.*{STEPS[-1]}"):
        build("subject", "tiny_retrieval", checkpoint=7)()


def test_codewords_are_one_token_each_and_text_is_encoded_without_loss() -> None:
    nouns = build("batch", "key_retrieval").nouns[:CODEWORDS]
    for text in ("Key: river\n", "naïve – ‘x’", " ".join(nouns)):
        assert TOKENIZER.decode(TOKENIZER.encode(text).ids) == text
    assert sorted(i for noun in nouns for i in TOKENIZER.encode(f" {noun}").ids) == list(range(320, 384))


@of_every_model
def test_the_first_checkpoint_is_the_initialisation_of_the_script(heads: int, seed: int) -> None:
    state = new_model(seed, TOKENIZER.get_vocab_size(), heads).state_dict()
    for name, weight in checkpoint_in(file_of(heads, seed), 0).items():
        np.testing.assert_array_equal(weight.numpy(), state[name].half().numpy())


def test_heads_begin_with_different_scales() -> None:
    query = new_model(0, 384).model.layers[0].self_attn.q_proj.weight.view(8, -1)
    assert query.std(1).max() > 3 * query.std(1).min()


def test_a_few_steps_of_the_training_are_the_same_twice_and_can_be_loaded(tmp_path: Path) -> None:
    recipe = Recipe(steps=3, rows=4, keep=(0, 2, 3))
    ids = torch.randint(384, (500,), generator=torch.Generator().manual_seed(1))
    vocabulary = Vocabulary(384, CONTEXT, lambda text: list(TOKENIZER.encode(text[:20000]).ids))
    once, weights = trained(5, ids, vocabulary, recipe)
    again, _ = trained(5, ids, vocabulary, recipe)
    assert list(once) == [0, 2, 3]
    assert all(torch.equal(once[step][name], again[step][name]) for step in once for name in once[step])
    assert weights == LOGS[8]["weights"]
    file = tmp_path / "seed-5.safetensors"
    save(file, once)
    new_model(5, 384).config.save_pretrained(tmp_path)
    assert steps_in(file) == [0, 2, 3]
    for step in (0, 2, None):
        model = loaded(file, step, "test").model
        name = "model.layers.2.mlp.up_proj.weight"
        assert torch.equal(model.state_dict()[name], once[3 if step is None else step][name].float())
        assert all(math.isfinite(p.sum().item()) for p in model.parameters())
