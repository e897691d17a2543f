"""Depth routing: the architecture against forward passes written by hand, and its sources as units."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from harness import HarnessError, Prediction, Tokens, method
from harness.engine.depth_routes import WEIGHT, DepthRoutes, depth_routes, single_source
from harness.engine.depth_routing import Form, fixed_weights, routed, routers, with_bias
from harness.engine.hooked import HookedSubject
from harness.engine.subject import vocabulary_of
from harness.testing.probes import Look
from tests.unit.mixtures import model_of as mixture

SIZES = {"vocab_size": 33, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 4, "num_attention_heads": 4,
         "num_key_value_heads": 2, "head_dim": 6, "max_position_embeddings": 32, "initializer_range": 0.3,
         "pad_token_id": None}  # fmt: skip
PLAIN = {
    "llama": lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**SIZES)),
    "qwen3": lambda: hf.Qwen3ForCausalLM(hf.Qwen3Config(**SIZES)),
}
LOOKS = [Look(seed) for seed in range(3)]
FORMS: tuple[tuple[Form, int], ...] = (("reset", 2), ("reset", 3), ("cumulative", 4))
forms = pytest.mark.parametrize(("form", "block"), FORMS)


def plain(name: str = "llama") -> PreTrainedModel:
    torch.manual_seed(0)
    model: PreTrainedModel = PLAIN[name]().eval()
    return model


@cache
def model_of(form: Form, block: int, name: str = "llama") -> PreTrainedModel:
    """Random routers, in double precision."""
    model = routed(plain(name), form, block)
    torch.manual_seed(1)
    with torch.no_grad():
        for router in routers(model):
            router.query.normal_()
            router.gain.normal_(1, 0.3)
            router.bias.normal_()
    return model.double()


@cache
def batch() -> Tokens:
    rng = np.random.default_rng(1)
    query = np.array([11, 7, 9, 4, 11, 6])
    return Tokens("ragged", rng.integers(0, 33, (6, 12)), query, rng.integers(0, 33, 6), {}, "next_token")


def subject_of(model: PreTrainedModel) -> HookedSubject:
    return HookedSubject(model, depth_routes(model), vocabulary_of(model), "routed")


def sites_of(subject: HookedSubject) -> list[DepthRoutes]:
    return [site for site in subject.sites if isinstance(site, DepthRoutes)]


# ----------------------------------------------------------------------------------------------------------------------
# The architecture
# ----------------------------------------------------------------------------------------------------------------------


def by_hand(
    model: PreTrainedModel, tokens: Tensor, form: Form, block: int, change: Any = None
) -> tuple[Float[Tensor, "rows positions outputs"], dict[str, list[Float[Tensor, "rows positions"]]]]:
    """The equations, source by source. ``change(router, weights, sources)`` gives other weights. Also: the weights."""
    trunk: Any = model.model
    embedding = trunk.embed_tokens(tokens)
    places = torch.arange(tokens.shape[1])[None]
    angles = trunk.rotary_emb(embedding, places)
    causal = torch.full((tokens.shape[1],) * 2, -torch.inf, dtype=embedding.dtype).triu(1)[None, None]
    seen: dict[str, list[Tensor]] = {}

    def mixture(name: str, router: Any, sources: list[Tensor]) -> Tensor:
        logits = []
        for place, source in enumerate(sources):
            key = source / (source.square().mean(-1, keepdim=True) + router.eps).sqrt() * router.gain
            logits.append((key * router.query).sum(-1) + router.bias * (place == len(sources) - 1))
        powers = [logit.exp() for logit in logits]
        alpha = [power / sum(powers) for power in powers]
        alpha = alpha if change is None else change(name, alpha, sources)
        seen[name] = alpha
        return sum((weight[..., None] * source for weight, source in zip(alpha, sources, strict=True)), embedding * 0)

    blocks, partial, sublayer = [embedding], embedding, 0
    for place, layer in enumerate(trunk.layers):
        for kind in ("attn", "mlp"):
            begins = sublayer % block == 0
            if form == "reset":
                if begins and sublayer:
                    blocks.append(partial)
                sources = [*blocks] if begins else [*blocks, partial]
            else:
                if begins and sublayer:
                    blocks.append(partial)
                sources = [*blocks, partial]
            router = layer.attention_router if kind == "attn" else layer.mlp_router
            h = mixture(f"L{place}.{kind}", router, sources)
            if kind == "attn":
                given = {"position_embeddings": angles, "attention_mask": causal}
                output = layer.self_attn(layer.input_layernorm(h), **given)[0]
            else:
                output = layer.mlp(layer.post_attention_layernorm(h))
            partial = output if begins and form == "reset" else partial + output
            sublayer += 1
    h = mixture("out", layer.output_router, [*blocks, partial]) if form == "reset" else partial
    return model.lm_head(trunk.norm(h)), seen


@forms
def test_logits_are_those_of_the_equations_written_out(form: Form, block: int) -> None:
    model, tokens = model_of(form, block), torch.from_numpy(batch().tokens)
    with torch.no_grad():
        expected, _ = by_hand(model, tokens, form, block)
        assert torch.allclose(model(tokens, use_cache=False).logits, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("bias", [0.0, 10.0])
def test_a_wrapped_model_has_the_weights_of_the_schedule(name: str, bias: float) -> None:
    """e^b / (e^b + M) for the newest of M + 1 sources; two equal ones are one unit, with the weight of both."""
    model = with_bias(routed(plain(name), "cumulative", 4), bias)
    subject = subject_of(model)
    recording = subject.record(batch(), {"signal": method("signal", "routing_weight")})
    found = recording.readings["signal"]
    assert found.shape == (6, len(subject.units))
    assert np.ptp(found, axis=0).max() < 1e-6  # whatever the tokens
    sublayers = {"L0.mlp": 2, "L1.attn": 2, "L1.mlp": 2, "L2.attn": 3, "L2.mlp": 3, "L3.attn": 3, "L3.mlp": 3}
    expected: list[float] = []
    for sublayer, sources in sublayers.items():
        powers = np.array([1.0] * (sources - 1) + [np.exp(bias)])
        weights = powers / powers.sum()
        expected += [*weights[:-2], weights[-2:].sum()] if sublayer == "L2.attn" else [*weights]
    np.testing.assert_allclose(found[0], expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(fixed_weights(3, bias), weights, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", PLAIN)
def test_with_all_weight_on_the_newest_source_it_is_the_plain_model(name: str) -> None:
    tokens = torch.from_numpy(batch().tokens)
    with torch.no_grad():
        expected = plain(name)(tokens).logits
        assert torch.equal(with_bias(routed(plain(name), "cumulative", 2), 1e4)(tokens).logits, expected)


@forms
def test_routers_start_as_means(form: Form, block: int) -> None:
    model = routed(plain(), form, block)
    for site in sites_of(subject_of(model)):
        sources = torch.randn(2, 3, len(site.unit_of), 24)
        weights = site.weights((sources,))
        shares = torch.bincount(site.unit_of).float() / len(site.unit_of)
        assert torch.allclose(weights, shares.expand_as(weights))


def test_models_whose_layers_are_of_another_kind_are_refused() -> None:
    gpt2 = hf.GPT2LMHeadModel(hf.GPT2Config(n_layer=2, n_head=2, n_embd=16, vocab_size=33, n_positions=32))
    with pytest.raises(HarnessError, match=r"GPT2LMHeadModel.*\n.*Llama, Mistral, Qwen2, Qwen3"):
        routed(gpt2.eval(), "cumulative", 2)
    sizes = {**SIZES, "hidden_activation": "gelu"}
    with pytest.raises(HarnessError, match="Gemma2ForCausalLM"):
        routed(hf.Gemma2ForCausalLM(hf.Gemma2Config(**sizes)).eval(), "cumulative", 2)
    granite = hf.GraniteForCausalLM(hf.GraniteConfig(**SIZES, residual_multiplier=0.5)).eval()
    with pytest.raises(HarnessError, match="do more than add"):
        routed(granite, "cumulative", 2)


# ----------------------------------------------------------------------------------------------------------------------
# Units
# ----------------------------------------------------------------------------------------------------------------------


def test_units_are_named_by_sublayer_and_source() -> None:
    subject = subject_of(model_of("reset", 2))
    labels = subject.units.labels
    assert labels[:5] == ("L0.mlp<-embedding", "L0.mlp<-current", "L1.attn<-embedding", "L1.attn<-current",
                          "L1.mlp<-embedding")  # fmt: skip
    assert labels[-5:] == ("out<-embedding", "out<-b1", "out<-b2", "out<-b3", "out<-current")
    assert len(labels) == 2 + (2 + 3) + (3 + 4) + (4 + 5) + 5
    assert single_source(model_of("reset", 2), sites_of(subject)) == ["L0.attn"]
    assert {site.band for site in sites_of(subject) if site.depth < 2} == {"early"}
    assert [site.band for site in sites_of(subject)][-3:] == ["late"] * 3
    assert subject.units.at_most["out.router"] == 4


def test_sources_that_are_one_tensor_are_one_unit() -> None:
    """A cumulative block is a copy of the running sum where it begins; and the first one is the embedding."""
    model = model_of("cumulative", 4)
    sites = {site.name: site for site in sites_of(subject_of(model))}
    assert sites["L2.attn.router"].unit_of.tolist() == [0, 1, 1]
    assert sites["L2.attn.router"].labels == ["L2.attn<-embedding", "L2.attn<-current"]
    assert sites["L2.mlp.router"].labels == ["L2.mlp<-embedding", "L2.mlp<-b1", "L2.mlp<-current"]
    assert "L0.attn.router" not in sites


@forms
def test_weights_sum_to_one_also_after_removal(form: Form, block: int) -> None:
    for site in sites_of(subject_of(model_of(form, block))):
        inputs = (torch.randn(2, 3, len(site.unit_of), 24).double(),)
        assert torch.allclose(site.weights(inputs).sum(-1), torch.ones(2, 3).double())
        ablated = torch.arange(len(site.labels)) == 0
        left = site.rerouted(inputs, ablated.expand(2, 1, -1))
        assert torch.allclose(left.sum(-1), torch.ones(2, 3).double())
        assert (left[..., 0] == 0).all()


def removed(names: set[str], sublayers: dict[str, list[str]]) -> Any:
    def change(router: str, alpha: list[Tensor], _: list[Tensor]) -> list[Tensor]:
        left = [a * (f"{router}<-{s}" not in names) for a, s in zip(alpha, sublayers[router], strict=True)]
        return [a / sum(left) for a in left]

    return change


def zeroed(names: set[str], sublayers: dict[str, list[str]]) -> Any:
    def change(router: str, alpha: list[Tensor], _: list[Tensor]) -> list[Tensor]:
        return [a * (f"{router}<-{s}" not in names) for a, s in zip(alpha, sublayers[router], strict=True)]

    return change


def looks_by_hand(model: PreTrainedModel, form: Form, block: int, change: Any) -> np.ndarray:
    examples = batch()
    with torch.no_grad():
        logits = by_hand(model, torch.from_numpy(examples.tokens), form, block, change)[0]
    at_query = logits[torch.arange(6), torch.from_numpy(examples.query)].float()
    return np.stack([look(Prediction(at_query, torch.zeros(6, dtype=torch.long))).numpy() for look in LOOKS])


GROUPS = (("L1.mlp<-embedding",), ("L0.mlp<-current", "L2.attn<-embedding"), ("L3.mlp<-b1", "L3.mlp<-current"))


@pytest.mark.parametrize(("intervention", "by"), [("reroute", removed), ("renormalise", removed), ("zero", zeroed)])
@pytest.mark.parametrize(("form", "block"), [("reset", 2), ("cumulative", 4)])
def test_removing_and_zeroing_are_those_of_a_forward_pass_by_hand(
    form: Form, block: int, intervention: str, by: Any
) -> None:
    model = model_of(form, block)
    subject = subject_of(model)
    with torch.no_grad():
        _, seen = by_hand(model, torch.from_numpy(batch().tokens), form, block)
    names: dict[str, list[str]] = {}
    for router, alpha in seen.items():
        count = len(alpha)
        names[router] = ["embedding", *(f"b{i}" for i in range(1, count - 1)), "current"][-count:]
    if form == "cumulative":
        names["L2.attn"][1] = "current"  # the same tensor
    groups = [subject.units.find(group) for group in GROUPS]
    found = subject.evaluate(batch(), [(), *groups], method("intervention", intervention), LOOKS)
    for place, group in enumerate(GROUPS):
        expected = looks_by_hand(model, form, block, by({*group}, names))
        np.testing.assert_allclose(found[:, 1 + place], expected, rtol=0, atol=2e-5)
        assert np.abs(found[:, 1 + place] - found[:, 0]).max() > 1e-3


def test_mean_ablation_puts_the_mean_part_of_the_source_in_place_of_it() -> None:
    model = model_of("reset", 2)
    subject = subject_of(model)
    examples, name = batch(), "L2.mlp<-b1"
    tokens = torch.from_numpy(examples.tokens)
    reached = torch.arange(12)[None] <= torch.from_numpy(examples.query)[:, None]
    kept: list[Tensor] = []

    def mean(router: str, alpha: list[Tensor], sources: list[Tensor]) -> list[Tensor]:
        if router == "L2.mlp":
            part = alpha[1][..., None] * sources[1]
            kept.append(part[reached].mean(0))
        return alpha

    with torch.no_grad():
        by_hand(model, tokens, "reset", 2, mean)
        layer: Any = model.model.layers[2]  # type: ignore[union-attr]

        def replaced(_: Any, args: tuple[Tensor], output: Tensor) -> Tensor:
            alpha = layer.mlp_router.logits(args[0]).softmax(-1)[..., 1, None]
            return output - alpha * args[0][..., 1, :] + kept[0]

        handle = layer.mlp_router.register_forward_hook(replaced)
        logits = model(tokens, use_cache=False).logits
        handle.remove()
    at_query = logits[torch.arange(6), torch.from_numpy(examples.query)].float()
    expected = np.stack([look(Prediction(at_query, torch.zeros(6, dtype=torch.long))).numpy() for look in LOOKS])
    groups = [(), subject.units.find([name])]
    found = subject.evaluate(examples, groups, method("intervention", "mean", over="batch"), LOOKS)[:, 1]
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize(("bias", "agree"), [(0.0, True), (2.0, True), (10.0, False)])
def test_zeroing_a_source_is_removing_it_unless_it_has_nearly_all_the_weight(bias: float, agree: bool) -> None:
    """The norm of a sublayer takes out the factor 1 - alpha, but for its eps. Weights here: .33, .79, .9999."""
    model = with_bias(routed(plain(), "cumulative", 4), bias).double()
    subject = subject_of(model)
    group = [(), subject.units.find(["L2.mlp<-current"])]
    remove, zero = (
        subject.evaluate(batch(), group, method("intervention", name), LOOKS)[:, 1] for name in ("reroute", "zero")
    )
    difference = np.abs(remove - zero).max() / np.abs(remove).max()
    assert difference < 2e-3 if agree else difference > 0.05


def test_removing_every_source_of_a_router_is_refused() -> None:
    subject = subject_of(model_of("reset", 2))
    both = subject.units.find(["L0.mlp<-embedding", "L0.mlp<-current"])
    with pytest.raises(HarnessError, match=r"cannot be ablated together.*\n.*at most: 1 at L0.mlp.router"):
        subject.evaluate(batch(), [both], method("intervention", "reroute"), LOOKS)
    site = sites_of(subject)[0]
    with pytest.raises(HarnessError, match="all its 2 sources are removed"):
        site.rerouted((torch.randn(1, 1, 2, 24).double(),), torch.ones(1, 1, 2, dtype=torch.bool))


def test_a_planted_source_is_the_only_one_that_matters() -> None:
    """Every router reads the embedding only, but for two: one reads the newest source, and so does the output."""
    model = routed(plain(), "reset", 8)
    hidden = 24
    with torch.no_grad():
        model.get_input_embeddings().weight.copy_(torch.randn(33, hidden) * 0.1)
        model.get_input_embeddings().weight[:, 0] = 3.0
        for layer in model.model.layers:  # type: ignore[union-attr]
            layer.self_attn.o_proj.weight[0] = 0
            layer.mlp.down_proj.weight[0] = 0
        for router in routers(model):
            router.query[0] = 200.0  # of all sources only the embedding has this coordinate
        planted: Any = model.model.layers[1].mlp_router  # type: ignore[union-attr]
        planted.query[0] = -200.0
        out: Any = model.model.layers[3].output_router  # type: ignore[union-attr]
        out.query[0] = -200.0
    subject = subject_of(model.double())
    weights = subject.record(batch(), {"signal": method("signal", "routing_weight")}).readings["signal"].mean(0)
    heavy = {label for label, weight in zip(subject.units.labels, weights, strict=True) if weight > 0.99}
    assert {"L1.mlp<-current", "out<-current"} <= heavy
    assert {"L1.attn<-embedding", "L2.mlp<-embedding"} <= heavy
    alone = [(unit,) for unit in range(len(subject.units))]
    found = subject.evaluate(batch(), [(), *alone], method("intervention", "reroute"), LOOKS)
    change = np.abs(found[:, 1:] - found[:, :1]).max(axis=(0, 2))
    idle = [unit for unit, weight in enumerate(weights) if weight < 1e-6]
    assert len(idle) == len(subject.units) // 2
    assert change[idle].max() < 1e-4
    assert change[subject.units.find(["L1.mlp<-current", "out<-current"]),].min() > 1e-2


# ----------------------------------------------------------------------------------------------------------------------
# A served architecture
# ----------------------------------------------------------------------------------------------------------------------


@cache
def inkling() -> PreTrainedModel:
    from copy import deepcopy

    model = deepcopy(mixture("inkling2"))
    torch.manual_seed(2)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith(("attention_input.query", "mlp_input.query", "final_input.query")):
                weight.normal_(0, 3)
    return model


def test_mixtures_of_inkling_are_recomputed_from_their_sources() -> None:
    model = inkling()
    subject = subject_of(model)
    found: dict[str, tuple[Tensor, Tensor]] = {}
    handles = [
        site.module.register_forward_hook(
            lambda _, args, output, site=site: found.update(
                {site.name: (site.values(args, output[site.returned]).sum(-2), output[site.returned])}
            )
        )
        for site in sites_of(subject)
    ]
    with torch.no_grad():
        model(torch.from_numpy(batch().tokens), use_cache=False)
    for handle in handles:
        handle.remove()
    assert {name.split(".")[1] for name in found if name != "out.router"} == {"query", "key", "value", "attn", "mlp"}
    for name, (recomputed, output) in found.items():
        assert (recomputed - output).abs().max() < 2e-6, name


@pytest.mark.parametrize("sublayer", ["mlp", "query", "key", "value"])
def test_removing_a_source_of_inkling_is_its_router_without_it(sublayer: str) -> None:
    model, examples = inkling(), batch()
    subject = subject_of(model)
    site = next(site for site in sites_of(subject) if site.depth == 2 and site.sublayer == sublayer)
    module: Any = site.module

    def without_first(_: Any, args: tuple[Tensor, Tensor], output: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        left = torch.cat([args[0][..., 1:, :], args[1].unsqueeze(-2)], -2)
        normed = left / (left.square().mean(-1, keepdim=True) + 1e-6).sqrt()
        query = module.query.reshape(-1, normed.shape[-1])[site.returned]
        mixed = ((normed @ query * normed.shape[-1] ** -0.5).softmax(-1)[..., None] * normed).sum(-2)
        return tuple(mixed if place == site.returned else value for place, value in enumerate(output))

    handle = module.register_forward_hook(without_first)
    with torch.no_grad():
        logits = model(torch.from_numpy(examples.tokens), use_cache=False).logits
    handle.remove()
    at_query = logits[torch.arange(6), torch.from_numpy(examples.query)]
    expected = np.stack([look(Prediction(at_query, torch.zeros(6, dtype=torch.long))).numpy() for look in LOOKS])
    group = subject.units.find([site.labels[0]])
    found = subject.evaluate(examples, [(), group], method("intervention", "reroute"), LOOKS)
    np.testing.assert_allclose(found[:, 1], expected, rtol=0, atol=1e-3)
    assert np.abs(found[:, 1] - found[:, 0]).max() > 1e-2


def test_a_plain_model_has_no_depth_routes() -> None:
    with pytest.raises(HarnessError, match=r"LlamaForCausalLM has no depth routers.*\n.*subject.arm=wrapped"):
        depth_routes(plain())


def test_units_say_what_they_can_be_read_by() -> None:
    subject = subject_of(model_of("reset", 2))
    assert WEIGHT in subject.sources
    assert {"weights", "rerouted", "ablated", "output"} <= subject.gives
