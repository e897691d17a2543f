"""The depth-routing models that come with the harness: what their card says, their arms, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from harness_plugins.subjects._depth.arms import FILES, WEIGHTS, model_of, state_of
from harness_plugins.subjects._depth.card import card
from harness_plugins.subjects._depth.measure import entropy, of_model
from harness_plugins.subjects._depth.train import Recipe, new_model, train, train_seed

from harness import HarnessError, Vocabulary, method, rng_for
from harness.data.markov import sequences, transitions
from harness.engine.depth_routing import fixed_weights, routed, routers

LOG = json.loads((WEIGHTS / "training_log.json").read_text(encoding="utf-8"))
SEEDS = range(len(LOG["arms"]["trained"]))


def test_the_model_card_has_the_numbers_of_the_log() -> None:
    assert card(LOG) == (WEIGHTS / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("arm", FILES)
def test_a_shipped_model_has_the_losses_of_the_log(arm: str) -> None:
    assert of_model(arm, 0, WEIGHTS) == pytest.approx(LOG["arms"][arm][0], abs=2e-3)


@pytest.mark.slow
@pytest.mark.parametrize("arm", FILES)
def test_every_shipped_model_has_the_losses_of_the_log(arm: str) -> None:
    for seed in SEEDS:
        assert of_model(arm, seed, WEIGHTS) == pytest.approx(LOG["arms"][arm][seed], abs=2e-3)


@pytest.mark.slow
def test_training_again_gives_models_as_good_as_the_shipped_ones(tmp_path: Path) -> None:
    """Rounding differs between machines, so losses agree up to .05 nats; on one machine with one thread, exactly."""
    new_model(0).config.save_pretrained(tmp_path)
    train_seed(0, tmp_path)
    for arm in FILES:
        if arm != "fixed":  # its loss is far from that of any trained model
            assert of_model(arm, 0, tmp_path) == pytest.approx(LOG["arms"][arm][0], abs=0.05)


def test_trained_models_know_the_chain_and_its_repeats() -> None:
    """No model can be below the entropy of the chain, but for the sampling error of 8,000 tokens."""
    assert LOG["entropy"] == pytest.approx(entropy(), abs=1e-4)
    for arm in ("trained", "uniform", "wrapped", "tuned_routing", "tuned_all"):
        for row in LOG["arms"][arm]:
            assert LOG["entropy"] - 0.05 < row["chain"] < LOG["entropy"] + 0.25
            assert row["repeat"] < 0.5


def test_all_weights_together_are_small() -> None:
    assert sum(file.stat().st_size for file in WEIGHTS.iterdir()) < 6e6


def test_a_few_steps_of_the_training_are_the_same_twice(tmp_path: Path) -> None:
    short = Recipe(2, 1e-3, rows=4)
    states = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        train_seed(0, folder, short, short, short)
        states.append({arm: state_of(arm, 0, folder) for arm in FILES})
    for arm in FILES:
        assert all(torch.equal(states[0][arm][name], states[1][arm][name]) for name in states[0][arm])
    assert any((value != 0).any() for name, value in states[0]["trained"].items() if name.endswith("router.query"))


@pytest.mark.parametrize("arm", ["uniform", "wrapped", "fixed"])
def test_fixed_routing_has_the_weights_of_the_schedule_for_all_tokens(arm: str) -> None:
    subject = method("subject", "depth_routes", arm=arm, bias=3.0)()
    batch = method("batch", "markov_repeats", n=8)(subject.reads)
    weights = subject.record(batch, {"signal": method("signal", "routing_weight")}).readings["signal"]
    assert np.ptp(weights, axis=0).max() < 1e-6
    bias, place = 0.0 if arm == "uniform" else 3.0, 0
    for site in subject.sites:
        sources = np.zeros(len(site.labels))
        np.add.at(sources, site.unit_of.numpy(), fixed_weights(len(site.unit_of), bias))
        np.testing.assert_allclose(weights[0, place : place + len(sources)], sources, rtol=0, atol=1e-6)
        place += len(sources)


@pytest.mark.parametrize("arm", ["trained", "tuned_routing", "tuned_all"])
def test_trained_routing_depends_on_tokens(arm: str) -> None:
    subject = method("subject", "depth_routes", arm=arm)()
    batch = method("batch", "markov_repeats", n=8)(subject.reads)
    weights = subject.record(batch, {"signal": method("signal", "routing_weight")}).readings["signal"]
    assert weights.std(axis=0).max() > 0.01


@pytest.mark.parametrize("arm", ["trained", "wrapped"])
def test_its_units_are_known_without_loading_it_and_their_classes_are(arm: str) -> None:
    subject = method("subject", "depth_routes", arm=arm)
    loaded = subject()
    assert subject.runs(SimpleNamespace(layers=4)) == loaded.units.runs
    assert subject.vocabulary() == loaded.reads
    assert loaded.about["single_source"] == ["L0.attn"]
    assert loaded.about["merged_sources"] == ({"L2.attn<-current": 2} if arm == "wrapped" else {})
    assert loaded.about["conditions_share"] == ["trunk"]
    of = dict(zip(loaded.units.labels, loaded.truth.classes, strict=True))
    assert (of["L0.mlp<-embedding"], of["L3.attn<-current"]) == ("early mlp embedding", "late attn current")
    if arm == "trained":
        assert (of["L3.mlp<-b2"], of["out<-b1"]) == ("late mlp older", "out older")


def test_training_with_routers_that_stay_means_is_training_the_plain_model() -> None:
    """The mean of all sources is the residual stream divided by their number; norms take out the factor."""
    frozen = routed(new_model(0), "reset", 2)
    for router in routers(frozen):
        router.requires_grad_(False)
    plain, short = new_model(0), Recipe(3, 1e-3, rows=8)
    losses = [train(model, 0, short, "from scratch") for model in (frozen, plain)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-3)
    state, start = frozen.state_dict(), new_model(0).state_dict()
    assert not torch.allclose(state["model.norm.weight"], start["model.norm.weight"], rtol=0, atol=1e-6)
    for name, weight in plain.state_dict().items():
        assert torch.allclose(state[name], weight, rtol=0, atol=1e-3), name


def test_wrapped_it_is_the_plain_model() -> None:
    tokens = torch.from_numpy(sequences(transitions(0), np.arange(4) < 2, 32, rng_for(0, "test")))
    state = state_of("wrapped", 0)
    with torch.no_grad():
        wrapped = model_of("wrapped", 0, 1e4)
        assert torch.equal(wrapped.get_input_embeddings().weight, state["model.embed_tokens.weight"])
        from transformers import LlamaConfig, LlamaForCausalLM

        plain = LlamaForCausalLM(LlamaConfig.from_pretrained(WEIGHTS)).eval()
        plain.load_state_dict({**state, "lm_head.weight": state["model.embed_tokens.weight"]})
        assert torch.allclose(wrapped(tokens).logits, plain(tokens).logits, rtol=0, atol=1e-5)


def test_tiny_can_be_wrapped_and_has_the_analytic_weights() -> None:
    subject = method("subject", "depth_routes", path="tiny", arm="wrapped", blocks=2)()
    batch = method("batch", "random_repeat", n=4)(subject.reads)
    weights = subject.record(batch, {"signal": method("signal", "routing_weight")}).readings["signal"]
    e = np.exp(10)
    current = {label: w for label, w in zip(subject.units.labels, weights[0], strict=True) if label.endswith("current")}
    assert len(subject.units) == 17
    assert current["L0.mlp<-current"] == pytest.approx(e / (e + 1), abs=1e-6)
    assert current["L2.mlp<-current"] == pytest.approx(e / (e + 2), abs=1e-6)
    assert current["L2.attn<-current"] == pytest.approx((e + 1) / (e + 2), abs=1e-6)
    assert np.ptp(weights, axis=0).max() < 1e-6


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"path": "tiny"}, r"LlamaForCausalLM has no depth routers.*\n.*subject.arm=wrapped"),
        ({"path": "tiny", "arm": "uniform"}, r"subject.arm=uniform is an arm of tiny_depth.*\n.*subject.arm=wrapped"),
        ({"seed": 17}, r"tiny_depth seed '17' is not known.*\n.*0, 1, 2"),
    ],
)
def test_models_without_depth_routes_are_refused(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(HarnessError, match=message):
        method("subject", "depth_routes", **parameters)()


def test_the_batch_repeats_half_of_its_sequences_and_follows_the_chain() -> None:
    vocabulary = Vocabulary(32, 64)
    batch = method("batch", "markov_repeats", n=4000, seed=3)(vocabulary)
    repeat = batch.groups["domain"] == "repeat"
    assert repeat.sum() == 2000
    assert (batch.tokens[repeat, 16:] == batch.tokens[repeat, :16]).all()
    assert (batch.target == batch.tokens[np.arange(4000), batch.query + 1]).all()
    assert (batch.query[repeat] >= 16).all()
    chain, first = transitions(0), batch.tokens[:, :16]
    counts = np.zeros((32, 32))
    np.add.at(counts, (first[:, :-1].ravel(), first[:, 1:].ravel()), 1)
    seen = counts.sum(1, keepdims=True)
    assert np.abs(counts / seen - chain).max() < 5 * np.sqrt(0.25 / seen.min())
    with pytest.raises(HarnessError, match="has 32 tokens; the subject has 20"):
        method("batch", "markov_repeats")(Vocabulary(20, 64))
