"""The embedded mixture of experts: it copies, it reads text, and its routers tell domains apart."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from harness_plugins.subjects.tiny.train import Stage
from harness_plugins.subjects.tiny_moe.card import card
from harness_plugins.subjects.tiny_moe.measure import DOMAINS, corpus, encoded, information, measured, of_model
from harness_plugins.subjects.tiny_moe.train import EXPERTS, LAYERS, is_kept, new_model, save, train
from safetensors.torch import load_file
from tokenizers import Tokenizer

from harness.engine.loading import load
from harness.registry.config import registry
from harness.util.digest import digest, digest_files
from harness.util.errors import HarnessError

pytestmark = pytest.mark.unchecked

SUBJECTS = Path(__file__).resolve().parents[2] / "plugins/subjects"
WEIGHTS = SUBJECTS / "tiny_moe/weights"
CHECKPOINTS = sorted((WEIGHTS / "checkpoints").iterdir())
LOG = json.loads((WEIGHTS / "training_log.json").read_text(encoding="utf-8"))
FIRST, LAST = LOG["checkpoints"][0], LOG["checkpoints"][-1]


def build(stage: str, name: str, **parameters: Any) -> Any:
    return registry().get(stage, name).build(parameters)


def agree(found: Any, logged: Any, tolerance: float) -> None:
    """Nested numbers are equal up to a tolerance, key by key."""
    assert type(found) is type(logged)
    if isinstance(logged, dict):
        assert found.keys() == logged.keys()
        for name, value in logged.items():
            agree(found[name], value, tolerance)
    else:
        np.testing.assert_allclose(found, logged, rtol=tolerance, atol=tolerance)


def tolerance_of(held_out: str) -> float:
    """Another version of Python has other text, so its numbers are only near those of the log."""
    return 2e-3 if held_out == LOG["held_out_digest"] else 0.3


def test_the_model_card_has_the_numbers_of_the_log() -> None:
    assert card(LOG) == (WEIGHTS / "README.md").read_text(encoding="utf-8")


def test_the_last_checkpoint_has_the_losses_and_the_routing_of_its_log() -> None:
    texts = corpus(held_out=True)
    ids = encoded(texts, Tokenizer.from_file(str(WEIGHTS / "tokenizer.json")))
    found = of_model(load(str(CHECKPOINTS[-1]), device="cpu").model, ids)
    logged = {name: LAST[name] for name in ("loss", "copied", "entropy", "information")}
    agree(found, {**logged, "usage": LOG["usage"]}, tolerance_of(digest(texts)))


@pytest.mark.slow
def test_every_number_of_the_card_is_measured_again_from_the_weights() -> None:
    found = measured(WEIGHTS)
    tolerance = tolerance_of(found["held_out_digest"])
    assert len(found["checkpoints"]) == len(LOG["checkpoints"])
    for row, logged in zip(found["checkpoints"], LOG["checkpoints"], strict=True):
        agree(row, logged, tolerance)
    if tolerance < 0.01:
        agree(found["heads"], LOG["heads"], 0.15)  # selectivities are ratios, with one decimal


def test_it_learns_to_copy_and_to_read_text() -> None:
    assert FIRST["copied"] < 0.05
    assert LAST["copied"] > 0.8
    assert LAST["accuracy"]["random_repeat"] > 0.8
    for domain in ("english", "code"):
        assert LAST["loss"][domain] < FIRST["loss"][domain] - 2


def test_it_predicts_the_answer_in_every_domain_far_above_chance() -> None:
    assert all(LAST["accuracy"][domain] > 0.5 for domain in DOMAINS)


def test_routing_is_neither_uniform_nor_collapsed_and_tells_domains_apart() -> None:
    assert np.mean(LAST["entropy"]) < 0.9 * math.log(EXPERTS)
    usage = np.array(LOG["usage"])
    assert usage.shape == (LAYERS, EXPERTS, len(DOMAINS))
    np.testing.assert_allclose(usage.sum(axis=1), 1, atol=1e-3)
    assert (usage.mean(axis=-1) > 0.005).all()
    assert max(LAST["information"]) > 0.1


def test_information_of_domain_and_expert_by_hand() -> None:
    same, apart = np.full((4, 2), 0.25), np.eye(4)[:, :2]
    half = np.array([[0.5, 0], [0.5, 0.5], [0, 0.5], [0, 0]])  # one half of each domain shares an expert
    np.testing.assert_allclose(information(np.stack([same, apart, half])), [0, math.log(2), 0.5 * math.log(2)])


def test_checkpoints_are_those_of_the_log_and_no_two_are_equal() -> None:
    assert [int(folder.name.removeprefix("step-")) for folder in CHECKPOINTS] == [r["step"] for r in LOG["checkpoints"]]
    assert FIRST["step"] == 0
    digests = {build("subject", "tiny_moe", checkpoint=row["step"]).fingerprint() for row in LOG["checkpoints"]}
    assert len(digests) == len(CHECKPOINTS) >= 5


def test_the_default_is_the_last_checkpoint() -> None:
    method = build("subject", "tiny_moe")
    subject = method()
    assert subject.label == subject.about["path"] == "tiny_moe"
    assert len(subject.units) == 32
    assert next(subject.model.parameters()).dtype == torch.float32
    assert method.fingerprint() == digest_files(CHECKPOINTS[-1] / "model.safetensors")
    with pytest.raises(HarnessError, match=rf"tiny_moe checkpoint '7' is not known.*\n.*{LAST['step']}"):
        build("subject", "tiny_moe", checkpoint=7)()


def test_all_shipped_weights_together_stay_under_60_megabytes() -> None:
    def size(folder: Path) -> int:
        return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())

    assert size(WEIGHTS) < 20e6
    assert size(SUBJECTS) < 60e6


def test_the_first_checkpoint_is_the_initialisation_of_the_script() -> None:
    state, stored = new_model(LOG["seed"]).state_dict(), load_file(CHECKPOINTS[0] / "model.safetensors")
    for name in ("model.embed_tokens.weight", "model.layers.3.mlp.gate.weight"):
        np.testing.assert_array_equal(stored[name].numpy(), state[name].half().numpy())


def test_a_few_steps_of_the_training_are_the_same_twice_and_can_be_loaded(tmp_path: Path) -> None:
    stages = (
        Stage(32, 6, 16, (4, 10), 3e-3, 3),
        Stage(64, 6, 319, (4, 30), 2e-3, 2),
        Stage(96, 6, 319, (4, 46), 2e-3, 8, text=4, layers=LAYERS),
    )
    ids = {domain: torch.randint(320, (500,), generator=torch.Generator().manual_seed(1)) for domain in ("a", "b")}

    def trained() -> dict[str, torch.Tensor]:
        model, kept = new_model(3), []
        for step, number, left, losses in train(model, ids, 3, stages):
            assert all(map(math.isfinite, losses.values()))
            if is_kept(stages[number], number, left, stages):
                kept.append(step)
        assert kept == [3, 5, 6, 9, 13]
        save(tmp_path / "model", model)
        return load_file(tmp_path / "model" / "model.safetensors")

    once, again = trained(), trained()
    assert all(torch.equal(once[name], again[name]) for name in once)
    assert len(load(str(tmp_path / "model"), device="cpu").heads().units) == 32
