"""Routers of mixtures of experts, against the gates' own weights and the logits that transformers returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from harness import HarnessError, Rows, method
from harness.data.first_order import FirstOrder
from harness.data.requests import check_signal_of_units
from harness.engine.families import sites_of_families
from harness.engine.hooked import HookedSubject
from harness.engine.routers import routers_of
from harness.engine.subject import HeadSubject, vocabulary_of
from harness.testing.bench import InMemory
from harness.testing.subject import records_every_source
from tests.unit.mixtures import CONFIGS, EXPERTS, IMPLEMENTATIONS, LAYERS, SIZES, batch, model_of

SIGMOID = ("deepseek_v3", "inkling", "inkling2")
OTHER_ATTENTION = ("inkling", "inkling2")  # their heads cannot be intercepted


def subjects_of(name: str, model: PreTrainedModel) -> list[HeadSubject | HookedSubject]:
    units = HookedSubject(model, sites_of_families(model, ["mlp_layers"]), vocabulary_of(model), name)
    return [units] if name in OTHER_ATTENTION else [units, HeadSubject(model, name)]


@dataclass(frozen=True)
class Whole:
    """The values of a source, unchanged, and the sites that were seen."""

    source: str = "router"
    sites: tuple[str, ...] = ()

    def read(self, rows: Rows) -> np.ndarray:
        assert rows.source == self.source
        return rows.values

    def fingerprint(self) -> str:
        return ""


def by_hand(model: PreTrainedModel, name: str) -> np.ndarray:
    """Probabilities [examples, sum of experts] from what enters each gate and its weight, one example at a time."""
    gates = [module for module in model.modules() if type(module).__name__.lower().endswith("router")]
    entered: dict[nn.Module, torch.Tensor] = {}
    handles = [gate.register_forward_pre_hook(lambda gate, args: entered.update({gate: args[0]})) for gate in gates]
    examples = []
    try:
        for tokens, query in zip(batch().tokens, batch().query, strict=True):
            with torch.no_grad():
                model(torch.from_numpy(tokens[None, : query + 1]), use_cache=False)
            found = []
            for gate in gates:
                hidden = entered[gate].reshape(query + 1, -1)[query].double()
                logits = (gate.weight.double() @ hidden).detach().numpy()
                found.append(1 / (1 + np.exp(-logits)) if name in SIGMOID else np.exp(logits) / np.exp(logits).sum())
                found[-1] = found[-1][:EXPERTS]  # Inkling's gate also has the shared expert, which is always on
            examples.append(np.concatenate(found))
    finally:
        for handle in handles:
            handle.remove()
    return np.array(examples)


@pytest.mark.parametrize("experts", IMPLEMENTATIONS)
@pytest.mark.parametrize("name", CONFIGS)
def test_probabilities_are_those_of_the_gates_under_every_implementation_of_experts(name: str, experts: str) -> None:
    model = model_of(name, experts)
    expected = by_hand(model, name)
    for subject in subjects_of(name, model):
        recording = subject.record(batch(), {"stratifier": Whole(), "again": Whole()})
        found = recording.readings["stratifier"]
        assert found.shape == (*expected.shape, 1)
        np.testing.assert_allclose(found[:, :, 0], expected, atol=2e-5)
        assert (recording.readings["again"] == found).all()
        assert [router.layer for router in subject.routers] == sorted({router.layer for router in subject.routers})
        if name not in SIGMOID:
            np.testing.assert_allclose(found.reshape(6, -1, EXPERTS).sum(axis=2), 1, atol=1e-5)


@pytest.mark.parametrize("name", ["olmoe", "flex_olmo", "mixtral", "qwen2_moe", "qwen3_moe"])
def test_probabilities_are_the_softmax_of_the_logits_that_transformers_returns(name: str) -> None:
    model, examples = model_of(name), batch()
    found = HeadSubject(model, name).record(examples, {"routes": Whole()}).readings["routes"][:, :, 0]
    for example, query in enumerate(examples.query):
        tokens = torch.from_numpy(examples.tokens[example : example + 1, : query + 1])
        with torch.no_grad():
            logits = model(tokens, use_cache=False, output_router_logits=True).router_logits
        expected = np.concatenate([layer.softmax(-1)[query].numpy() for layer in logits])
        np.testing.assert_allclose(found[example], expected, atol=2e-5)


@pytest.mark.parametrize("name", ["olmoe", "mixtral", "deepseek_v3"])
def test_small_logits_and_half_precision_do_not_hide_the_function(name: str) -> None:
    torch.manual_seed(0)
    config = CONFIGS[name]()
    config.initializer_range = 0.02
    model = AutoModelForCausalLM.from_config(config).eval()
    logits = torch.linspace(-2, 2, EXPERTS)
    expected = torch.sigmoid(logits) if name in SIGMOID else logits.softmax(-1)
    for dtype in (torch.float32, torch.bfloat16):
        for router in routers_of(model.to(dtype), name):
            torch.testing.assert_close(router.probabilities(logits), expected)


def test_routers_are_read_beside_attention_outputs_and_gradients() -> None:
    zero, logit = method("intervention", "zero"), method("metric", "target_logit")
    model = model_of("olmoe")
    expected = by_hand(model, "olmoe")
    for subject in subjects_of("olmoe", model):
        kinds = [name for name in subject.sources if name not in ("first_order", "attention")]
        readers: dict[str, Any] = {name: Whole(name) for name in kinds}
        for others in ({}, {"first_order": FirstOrder(Whole("first_order"), zero, logit)}):
            readings = subject.record(batch(), {**readers, **others}).readings
            np.testing.assert_allclose(readings["router"][:, :, 0], expected, atol=2e-5)
            assert readings["activation"].shape[:2] == (6, len(subject.units))


def test_sites_are_the_routers_in_the_order_of_layers() -> None:
    seen: list[tuple[str, int]] = []

    class Sites(Whole):
        def read(self, rows: Rows) -> np.ndarray:
            seen.append((rows.site, rows.values.shape[1]))
            return rows.values

    for subject in subjects_of("deepseek_v2", model_of("deepseek_v2")):
        seen.clear()
        subject.record(batch().take(np.array([0])), {"stratifier": Sites()})
        assert seen == [("L1.router", EXPERTS), ("L2.router", EXPERTS), ("L3.router", EXPERTS)]


def test_routers_of_different_sizes_are_joined_along_experts() -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIGS["mixtral"]()).eval()
    other = AutoModelForCausalLM.from_config(
        hf.MixtralConfig(**SIZES, num_local_experts=3, num_experts_per_tok=2)
    ).eval()
    model.model.layers[1].mlp = other.model.layers[1].mlp
    expected = by_hand(model, "mixtral")
    assert expected.shape == (6, 3 * EXPERTS + 3)
    for subject in subjects_of("mixtral", model):
        found = subject.record(batch(), {"stratifier": Whole()}).readings["stratifier"][:, :, 0]
        np.testing.assert_allclose(found, expected, atol=2e-5)


def test_a_dense_model_has_no_routers() -> None:
    model = AutoModelForCausalLM.from_config(hf.LlamaConfig(**SIZES)).eval()
    for subject in subjects_of("llama", model):
        assert "router" not in subject.sources
        with pytest.raises(
            HarnessError, match="stratifier reads 'router', which subject llama does not have"
        ) as caught:
            subject.record(batch(), {"stratifier": Whole()})
        assert "only mixtures of experts have routers (subject=tiny_moe)" in caught.value.fix


def test_routers_that_are_no_softmax_or_sigmoid_are_refused() -> None:
    """PhiMoE takes a softmax over some of the experts, others for each choice."""
    model = AutoModelForCausalLM.from_config(
        hf.PhimoeConfig(**SIZES, num_local_experts=EXPERTS, num_experts_per_tok=2)
    ).eval()
    with pytest.raises(HarnessError, match="mini: the weights of the experts do not say how"):
        HeadSubject(model, "mini").record(batch(), {"stratifier": Whole()})


def test_experts_without_readable_routers_are_refused() -> None:
    """JetMoE's router groups tokens by expert, and Llama 4's returns scores of all experts."""
    model = AutoModelForCausalLM.from_config(
        hf.JetMoeConfig(**SIZES, kv_channels=8, num_local_experts=EXPERTS, num_experts_per_tok=2)
    ).eval()
    units = HookedSubject(model, sites_of_families(model, ["stream"]), vocabulary_of(model), "mini")
    with pytest.raises(HarnessError, match="mini: JetMoeForCausalLM has experts, but no module"):
        units.record(batch(), {"stratifier": Whole()})


def test_a_router_that_gives_nan_is_named() -> None:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIGS["olmoe"]()).eval()
    subject = HeadSubject(model, "mini")
    assert len(subject.routers) == LAYERS
    with torch.no_grad():
        model.model.layers[2].mlp.gate.weight[0] = torch.nan
    with pytest.raises(HarnessError, match=r"L2\.router gives probabilities that are NaN"):
        subject.record(batch(), {"stratifier": Whole()})


def test_a_signal_of_experts_is_refused_where_units_are_heads() -> None:
    subject, signal = HeadSubject(model_of("olmoe"), "mini"), method("signal", "router_probability")
    with pytest.raises(HarnessError, match="signal reads 'router', which gives one number per expert") as caught:
        check_signal_of_units(subject, {"signal": signal})
    assert "stratifier=routes" in caught.value.fix
    with pytest.raises(HarnessError, match=r"activity has shape \[6, 24\]; there are 16 units"):
        signal(subject.record(batch(), {"signal": signal}))


@pytest.mark.parametrize("name", ["olmoe", "deepseek_v3"])
def test_subjects_with_routers_pass_the_contract_of_subjects(name: str) -> None:
    for subject in subjects_of(name, model_of(name)):
        records_every_source(InMemory(subject))
