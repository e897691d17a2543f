"""The extended logit lens and direct logit attribution, against forward passes written by hand."""

from __future__ import annotations

from copy import deepcopy
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from harness import HarnessError
from harness.engine.expert_lens import ExpertLens
from harness.engine.families import sites_of_families
from harness.engine.hooked import HookedSubject
from harness.engine.subject import vocabulary_of
from tests.unit.mixtures import EXPERTS, IMPLEMENTATIONS, LAYERS, batch, model_of


@cache
def subject_of(name: str, experts: str = "eager") -> HookedSubject:
    model = model_of(name, experts)
    return HookedSubject(model, sites_of_families(model, ["experts"]), vocabulary_of(model), name)


@cache
def lens_of(name: str, experts: str = "eager") -> ExpertLens:
    return ExpertLens.of(subject_of(name, experts), batch())


def by_hand() -> dict[str, np.ndarray]:
    """OLMoE, one example at a time: norms, gate, experts and residual stream computed from the weights."""
    model, found = model_of("olmoe"), {"top1": [], "topk": [], "final": [], "direct": []}
    examples = batch()
    for tokens, query, target in zip(examples.tokens, examples.query, examples.target, strict=True):
        streams: list[Tensor] = []
        handles = [
            layer.post_attention_layernorm.register_forward_pre_hook(
                lambda _, args, to=streams: to.append(args[0][0, -1])
            )
            for layer in model.model.layers
        ]
        handles.append(
            model.model.norm.register_forward_pre_hook(lambda _, args, to=streams: to.append(args[0][0, -1]))
        )
        with torch.no_grad():
            final = model(torch.from_numpy(tokens[None, : query + 1]), use_cache=False).logits[0, -1]
            for handle in handles:
                handle.remove()
            rms = (streams[-1].square().mean() + model.model.norm.variance_epsilon).sqrt()
            towards = (model.lm_head.weight[target] - model.lm_head.weight.mean(0)) * model.model.norm.weight / rms
            for place, layer in enumerate(model.model.layers):
                u = streams[place]
                x = layer.post_attention_layernorm(u)
                probabilities = (layer.mlp.gate.weight @ x).softmax(0)
                top = probabilities.topk(2)
                outputs = {}
                for weight, expert in zip(top.values, top.indices.tolist(), strict=True):
                    gate, up = (layer.mlp.experts.gate_up_proj[expert] @ x).chunk(2)
                    outputs[expert] = weight * (layer.mlp.experts.down_proj[expert] @ (nn.functional.silu(gate) * up))
                first = top.indices[0].item()
                lens = [model.lm_head(model.model.norm(u + h)) for h in (outputs[first], sum(outputs.values()))]
                found["top1"].append(lens[0].numpy())
                found["topk"].append(lens[1].numpy())
                found["final"].append(final.numpy())
                found["direct"].append([float(outputs[e] @ towards) if e in outputs else 0.0 for e in range(EXPERTS)])
    return {name: np.array(of).reshape(len(examples), LAYERS, -1) for name, of in found.items()}


def test_cosines_and_direct_effects_are_those_of_a_forward_pass_by_hand() -> None:
    hand, lens = by_hand(), lens_of("olmoe")
    centred = {name: hand[name] - hand[name].mean(-1, keepdims=True) for name in ("top1", "topk", "final")}
    for pair in ("final-top1", "final-topk", "top1-topk"):
        first, second = (centred[name] for name in pair.split("-"))
        expected = (first * second).sum(-1) / np.linalg.norm(first, axis=-1) / np.linalg.norm(second, axis=-1)
        np.testing.assert_allclose(lens.cosines[pair], expected.T, atol=1e-4)
    np.testing.assert_allclose(lens.direct, hand["direct"].reshape(len(batch()), -1).T, atol=1e-3)
    np.testing.assert_allclose(lens.cosines["final-topk"][-1], 1.0, atol=1e-4)  # the last layer's stream is the final


@pytest.mark.parametrize("experts", IMPLEMENTATIONS[1:])
def test_every_implementation_of_the_experts_gives_the_same_lens(experts: str) -> None:
    one, other = lens_of("olmoe"), lens_of("olmoe", experts)
    np.testing.assert_allclose(one.direct, other.direct, atol=1e-3)
    np.testing.assert_allclose(one.loss, other.loss, atol=1e-3)


def test_direct_effects_of_all_writers_are_the_centred_logit() -> None:
    """Of the last layer's experts and the rest of the stream: the attribution is linear in what is written."""
    model, lens = model_of("olmoe"), lens_of("olmoe")
    examples = batch()
    for example, (tokens, query, target) in enumerate(
        zip(examples.tokens, examples.query, examples.target, strict=True)
    ):
        seen: list[Tensor] = []
        handles = [
            model.model.norm.register_forward_pre_hook(lambda _, args, to=seen: to.append(args[0][0, -1])),
            model.model.layers[-1].post_attention_layernorm.register_forward_pre_hook(
                lambda _, args, to=seen: to.append(args[0][0, -1])
            ),
        ]
        with torch.no_grad():
            logits = model(torch.from_numpy(tokens[None, : query + 1]), use_cache=False).logits[0, -1]
            for handle in handles:
                handle.remove()
            before, after = seen
            towards = (model.lm_head.weight[target] - model.lm_head.weight.mean(0)) * (model.model.norm(after) / after)
            rest = float(before @ towards)
        whole = rest + lens.direct[-EXPERTS:, example].sum()
        assert whole == pytest.approx(float(logits[target] - logits.mean()), abs=1e-2)


def test_only_the_top_expert_is_a_model_of_top_one_routing() -> None:
    """OLMoE does not renormalise the weights of the chosen experts: its config with one expert per token is it."""
    lens, model = lens_of("olmoe"), deepcopy(model_of("olmoe"))
    for layer in model.model.layers:
        layer.mlp.gate.top_k = 1
    examples = batch()
    losses = []
    with torch.no_grad():
        for tokens, query, target in zip(examples.tokens, examples.query, examples.target, strict=True):
            logits = model(torch.from_numpy(tokens[None, : query + 1]), use_cache=False).logits[0, -1]
            losses.append(float(-logits.log_softmax(-1)[target]))
    np.testing.assert_allclose(lens.loss[-1], losses, atol=1e-3)
    assert np.abs(lens.loss[0] - lens.loss[-1]).max() > 0.01
    assert lens.loss.shape == (1 + LAYERS + 1, len(examples))


@pytest.mark.parametrize("name", ["mixtral", "qwen2_moe", "deepseek_v3"])
def test_other_architectures_are_read(name: str) -> None:
    lens = lens_of(name)
    assert all(np.abs(values).max() <= 1 + 1e-9 for values in lens.cosines.values())
    np.testing.assert_allclose(lens.cosines["final-topk"][-1], 1.0, atol=1e-3)


def test_units_that_are_no_experts_are_refused() -> None:
    model = model_of("olmoe")
    heads = HookedSubject(model, sites_of_families(model, ["heads"]), vocabulary_of(model), "heads")
    with pytest.raises(HarnessError, match="the logit lens needs experts of a language model"):
        ExpertLens.of(heads, batch())
