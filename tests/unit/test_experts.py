"""Experts as units: what they hand on and what ablating them does, against forward passes written by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import Float
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, GptOssConfig, PreTrainedModel

from harness import HarnessError, Intervention, Prediction, Reader, Rows, method
from harness.data.first_order import FirstOrder
from harness.engine.families import sites_of_families
from harness.engine.hooked import HookedSubject
from harness.engine.subject import vocabulary_of
from harness.testing.probes import Look, Output
from tests.unit.mixtures import CONFIGS, EXPERTS, IMPLEMENTATIONS, SIZES, batch, model_of

pytestmark = pytest.mark.unchecked

CHOOSING_BY_SOFTMAX = ("olmoe", "olmoe_top1", "mixtral", "qwen2_moe", "qwen3_moe")
Weights = Float[Tensor, "tokens experts"]
LOOKS = [Look(seed) for seed in range(3)]
SINGLE = ("deepseek_v3", "inkling", "inkling2")  # their routers compute in single precision


@cache
def exact_model_of(name: str) -> PreTrainedModel:
    """The eager model, in double precision if its code allows that: random models can amplify rounding a lot."""
    return model_of(name) if name in SINGLE else deepcopy(model_of(name)).double()


@cache
def subject_of(name: str, experts: str = "exact") -> HookedSubject:
    model = exact_model_of(name) if experts == "exact" else model_of(name, experts)
    return HookedSubject(model, sites_of_families(model, ["experts"]), vocabulary_of(model), name)


def gates(model: PreTrainedModel) -> list[nn.Module]:
    return [module for module in model.modules() if type(module).__name__.lower().endswith("router")]


def expert_modules(model: PreTrainedModel) -> list[nn.Module]:
    named = ((type(module).__name__, module) for module in model.modules())
    return [module for name, module in named if name.endswith("Experts") and "Shared" not in name]


@contextmanager
def with_weights(
    model: PreTrainedModel, ablated: dict[int, set[int]], change: Callable[..., Weights]
) -> Iterator[None]:
    """Every experts module, in order, is called with all experts and the weights that ``change`` makes of its own."""

    def hook(layer: int) -> Callable[..., object]:
        def before(
            _: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]
        ) -> tuple[tuple[Tensor, ...], dict]:
            hidden, chosen, weights = (*args, *kwargs.values())
            dense = weights.new_zeros(len(hidden), EXPERTS + 1).scatter_add(1, chosen.long(), weights)
            width = dense.shape[1] - 1
            out = torch.tensor(sorted(ablated.get(layer, ())), dtype=torch.long)
            new = change(dense[:, :width], out)
            everything = torch.arange(width).expand(len(hidden), width)
            return (hidden, everything, new), {}

        return before

    handles = [
        module.register_forward_pre_hook(hook(layer), with_kwargs=True)
        for layer, module in enumerate(expert_modules(model))
        if layer in ablated
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def looks_by_hand(model: PreTrainedModel) -> Float[np.ndarray, "looks examples"]:
    """Random projections of the logits at the query, one example at a time, without padding."""
    examples = batch()
    with torch.no_grad():
        logits = torch.stack(
            [
                model(torch.from_numpy(tokens[None, : query + 1]), use_cache=False).logits[0, query]
                for tokens, query in zip(examples.tokens, examples.query, strict=True)
            ]
        )
    return np.stack(
        [look(Prediction(logits.float(), torch.zeros(len(logits), dtype=torch.long))).numpy() for look in LOOKS]
    )


def looks(subject: HookedSubject, group: tuple[int, ...], intervention: Intervention) -> np.ndarray:
    """The same projections under one condition, beside another condition and the baseline."""
    found = subject.evaluate(batch(), [(), (0,), group], intervention, LOOKS)
    return np.asarray(found[:, 2])


def tolerance(name: str, experts: str) -> float:
    """Of the median error of logits, which are compared in single precision."""
    return 1e-5 if experts == "exact" and name not in SINGLE else 1e-4


def zeroed(weights: Weights, out: Tensor) -> Weights:
    return weights.index_fill(1, out, 0)


def scaled_up(weights: Weights, out: Tensor) -> Weights:
    left = weights.index_fill(1, out, 0)
    rest = left.sum(1, keepdim=True)
    return torch.where(rest > 0, left * weights.sum(1, keepdim=True) / rest, left)


def members(subject: HookedSubject, ablated: dict[int, set[int]]) -> tuple[int, ...]:
    """The units of these experts, by the place of their layer among those that have experts."""
    first = np.cumsum([0, *(len(site.labels) for site in subject.sites)])
    return tuple(sorted(int(first[layer]) + expert for layer, experts in ablated.items() for expert in experts))


ABLATED = ({0: {1}}, {0: {0, 3}, 1: {2, 4, 5}}, {1: {0, 1, 2, 3, 4, 5}})


@cache
def dropped_by_hand(name: str, place: int, intervention: str) -> Float[np.ndarray, "looks examples"]:
    """The eager module with all experts of ``ABLATED[place]``, most of them with the weight 0."""
    reference, change = exact_model_of(name), {"zero": zeroed, "renormalise": scaled_up}[intervention]
    with with_weights(reference, ABLATED[place], change):
        return looks_by_hand(reference)


@pytest.mark.parametrize("experts", ["exact", *IMPLEMENTATIONS])
@pytest.mark.parametrize("name", CONFIGS)
def test_dropping_and_renormalising_are_those_of_a_forward_pass_by_hand(name: str, experts: str) -> None:
    subject = subject_of(name, experts)
    for place, ablated in enumerate(ABLATED):
        group = members(subject, ablated)
        for intervention in ("zero", "renormalise"):
            expected = dropped_by_hand(name, place, intervention)
            error = np.abs(looks(subject, group, method("intervention", intervention)) - expected)
            assert np.median(error) < tolerance(name, experts), (ablated, intervention)
            assert np.quantile(error, 0.8) < 50 * tolerance(name, experts), (ablated, intervention)


@pytest.mark.parametrize("experts", ["exact", *IMPLEMENTATIONS])
@pytest.mark.parametrize("name", CHOOSING_BY_SOFTMAX)
def test_rerouting_is_the_router_without_these_experts(name: str, experts: str) -> None:
    """By hand: the gate's weights without some rows, a softmax over the rest, the top k, and the model's own norm."""
    reference, subject = exact_model_of(name), subject_of(name, experts)
    ablated = {0: {0, 3}, 1: {2, 4}}
    handles = [
        gate.register_forward_hook(_rerouted(sorted(ablated[layer]), name))
        for layer, gate in enumerate(gates(reference))
        if layer in ablated
    ]
    try:
        expected = looks_by_hand(reference)
    finally:
        for handle in handles:
            handle.remove()
    error = np.abs(looks(subject, members(subject, ablated), method("intervention", "reroute")) - expected)
    assert np.median(error) < tolerance(name, experts)
    assert np.quantile(error, 0.8) < 50 * tolerance(name, experts)
    assert np.abs(looks_by_hand(reference) - expected).max() > 0.1


def _rerouted(out: list[int], name: str) -> Callable[..., tuple[Tensor, Tensor, Tensor]]:
    def hook(gate: nn.Module, args: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> tuple[Tensor, Tensor, Tensor]:
        left = [expert for expert in range(EXPERTS) if expert not in out]
        logits = args[0].reshape(-1, args[0].shape[-1]) @ gate.weight[left].T
        k = output[2].shape[-1]
        weights, places = logits.softmax(-1).topk(k, dim=-1)
        if name in ("mixtral", "qwen3_moe"):  # they normalise the weights of the chosen experts
            weights = weights / weights.sum(-1, keepdim=True)
        return output[0], weights.to(output[1].dtype), torch.tensor(left)[places]

    return hook


@pytest.mark.parametrize("name", CONFIGS)
def test_rerouting_chooses_no_ablated_expert_and_as_many_as_before(name: str) -> None:
    subject = subject_of(name)
    site = subject.sites[0]
    seen: list[tuple[Tensor, Tensor, Tensor]] = []
    used: list[int] = []

    def hook(_: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor], output: Tensor) -> None:
        inputs = tuple(value[None] for value in (*args, *kwargs.values()))
        weights = site.weights(inputs)
        used[:] = used or weights[0].count_nonzero(0).topk(2).indices.tolist()
        mask = torch.zeros(1, 1, len(site.labels), dtype=torch.bool)
        mask[..., used] = True
        with torch.no_grad():
            seen.append((weights, site.rerouted(inputs, mask), site.rerouted(inputs, mask & False)))

    handle = site.module.register_forward_hook(hook, with_kwargs=True)
    try:
        looks_by_hand(exact_model_of(name))
    finally:
        handle.remove()
    before, after, unchanged = (torch.cat([part[i].flatten(0, 1) for part in seen]) for i in range(3))
    assert torch.allclose(before, unchanged, rtol=1e-4, atol=1e-6)
    assert before[:, used].any()
    assert not after[:, used].any()
    assert (after != 0).sum(1).tolist() == (before != 0).sum(1).tolist()


@pytest.mark.parametrize("intervention", ["zero", "renormalise"])
def test_an_example_that_is_not_routed_to_an_expert_is_not_changed_at_all(intervention: str) -> None:
    """The built-in negative control: tokens up to the query choose two of six experts each."""
    model, subject = exact_model_of("olmoe"), subject_of("olmoe")
    routed = np.zeros((len(batch()), EXPERTS), dtype=bool)
    for example, (tokens, query) in enumerate(zip(batch().tokens, batch().query, strict=True)):
        chosen: list[Tensor] = []
        handle = gates(model)[1].register_forward_hook(lambda _, __, output, to=chosen: to.append(output[2]))
        with torch.no_grad():
            model(torch.from_numpy(tokens[None, : query + 1]), use_cache=False)
        handle.remove()
        routed[example, chosen[0].unique()] = True
    assert not routed.all()
    for expert in range(EXPERTS):
        group = members(subject, {1: {expert}})
        found = subject.evaluate(batch(), [(), group], method("intervention", intervention), LOOKS)
        change = np.abs(found[:, 0] - found[:, 1]).max(axis=0)
        assert (change[~routed[:, expert]] < 1e-5).all()  # rounding to single precision
        assert (change[routed[:, expert]] > 1e-3).all()


def test_an_expert_hands_on_its_weight_times_its_output() -> None:
    """OLMoE: w down(silu(gate x) * up x), and nothing for tokens that are not routed to it. The sum is the output."""
    site = subject_of("olmoe").sites[1]
    seen: list[tuple[tuple[Tensor, ...], Tensor]] = []
    handle = site.module.register_forward_hook(lambda _, args, output: seen.append((args, output)))
    looks_by_hand(exact_model_of("olmoe"))
    handle.remove()
    (hidden, chosen, weights), output = seen[0]
    values = site.values((hidden[None], chosen[None], weights[None]), output[None])[0]
    for token in range(len(hidden)):
        for expert in range(EXPERTS):
            expected = torch.zeros_like(hidden[token])
            for place in (chosen[token] == expert).nonzero()[:, 0].tolist():
                gate, up = (site.module.gate_up_proj[expert] @ hidden[token]).chunk(2)
                expected = weights[token, place] * (site.module.down_proj[expert] @ (nn.functional.silu(gate) * up))
            assert torch.allclose(values[token, expert], expected, atol=1e-5)
    assert torch.allclose(values.sum(1), output, atol=1e-5)


def routings(name: str, layer: int) -> tuple[Weights, Tensor, Tensor]:
    """Weights of all experts, tokens and experts' outputs of a layer, of every token up to the queries."""
    model, weights, tokens, outputs = exact_model_of(name), [], [], []

    def before(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        hidden, chosen, given_weights = args
        everything = torch.arange(EXPERTS).expand(len(hidden), EXPERTS)
        weights.append(given_weights.new_zeros(len(hidden), EXPERTS).scatter_add(1, chosen, given_weights))
        tokens.append(hidden)
        one_hot = torch.eye(EXPERTS, dtype=hidden.dtype)
        outputs.append(
            torch.stack([module.forward(hidden, everything, row.expand(len(hidden), -1)) for row in one_hot], 1)
        )

    handle = expert_modules(model)[layer].register_forward_pre_hook(before)
    looks_by_hand(model)
    handle.remove()
    return torch.cat(weights), torch.cat(tokens), torch.cat(outputs)


@pytest.mark.parametrize("experts", ["exact", *IMPLEMENTATIONS])
def test_swapping_gives_the_weight_to_the_expert_that_is_used_about_as_often(experts: str) -> None:
    """By hand: the traffic of every expert, the nearest one that is left, and its output with both weights."""
    reference, subject = exact_model_of("olmoe"), subject_of("olmoe", experts)
    out = {1, 4}
    traffic = (routings("olmoe", 1)[0] != 0).double().mean(0)
    left = [expert for expert in range(EXPERTS) if expert not in out]
    partner = {expert: min(left, key=lambda other: abs(traffic[expert] - traffic[other])) for expert in out}

    def swapped(weights: Weights, ablated: Tensor) -> Weights:
        new = weights.index_fill(1, ablated, 0)
        for expert, other in partner.items():
            new[:, other] += weights[:, expert]
        return new

    with with_weights(reference, {1: out}, swapped):
        expected = looks_by_hand(reference)
    error = np.abs(looks(subject, members(subject, {1: out}), method("intervention", "swap")) - expected)
    assert np.median(error) < tolerance("olmoe", experts)
    assert np.abs(looks_by_hand(reference) - expected).max() > 0.01


def test_the_mean_of_routed_tokens_replaces_an_expert_where_it_is_routed() -> None:
    """By hand: the mean over the tokens of the batch that are routed to it; the others keep what they have."""
    reference, subject = exact_model_of("olmoe"), subject_of("olmoe")
    weights, _, outputs = routings("olmoe", 1)
    expert = 2
    on = weights[:, expert] != 0
    mean = (weights[on, expert, None] * outputs[on, expert]).mean(0)
    assert 0 < on.float().mean() < 1

    def after(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        hidden, chosen, given_weights = args
        only = given_weights.masked_fill(chosen != expert, 0)
        routed = (chosen == expert).any(1, keepdim=True)
        return output + torch.where(routed, mean - module.forward(hidden, chosen, only), 0)

    handle = expert_modules(reference)[1].register_forward_hook(after)
    expected = looks_by_hand(reference)
    handle.remove()
    found = looks(subject, members(subject, {1: {expert}}), method("intervention", "routed_mean"))
    assert np.median(np.abs(found - expected)) < 1e-5
    assert np.abs(looks_by_hand(reference) - expected).max() > 0.01


def test_sources_of_experts_are_routing_weight_and_output() -> None:
    weights, _, outputs = routings("mixtral", 0)
    subject, last = subject_of("mixtral"), np.cumsum(batch().query + 1) - 1
    for source, expected in (
        ("routed", (weights != 0).double()[:, :, None]),
        ("gate", weights[:, :, None]),
        ("expert_output", torch.where(weights[:, :, None] != 0, outputs, 0)),
        ("activation", weights[:, :, None] * outputs),
    ):
        read = subject.record(batch(), {"all": Everything(source)}).readings["all"][:, :EXPERTS]
        assert read == pytest.approx(expected[last].numpy(), abs=1e-4), source
    assert subject.record(batch(), {"all": Everything("routed")}).readings["all"][:, :EXPERTS].sum() == 2 * len(batch())


@dataclass(frozen=True)
class Everything(Reader):
    source: str

    def read(self, rows: Rows) -> np.ndarray:
        return rows.values


NEURONS = ("olmoe", "mixtral", "qwen2_moe", "deepseek_v2", "gpt_oss")


@cache
def neurons_of(name: str, experts: str) -> HookedSubject:
    model = gpt_oss(experts) if name == "gpt_oss" else model_of(name, experts)
    return HookedSubject(model, sites_of_families(model, ["expert_neurons"]), vocabulary_of(model), name)


@cache
def gpt_oss(experts: str) -> PreTrainedModel:
    """Transposed matrices, biases, a clamped gate; more neurons than the width."""
    torch.manual_seed(0)
    config = GptOssConfig(
        vocab_size=48, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, head_dim=8,
        num_key_value_heads=2, num_local_experts=EXPERTS, num_experts_per_tok=2, sliding_window=8, pad_token_id=0,
        eos_token_id=None, initializer_range=0.3, rope_parameters={"rope_type": "default", "rope_theta": 1e4},
    )  # fmt: skip
    return AutoModelForCausalLM.from_config(config, experts_implementation=experts).eval()


@pytest.mark.parametrize("experts", IMPLEMENTATIONS)
@pytest.mark.parametrize("name", NEURONS)
def test_ablating_a_neuron_of_an_expert_is_a_column_of_zeros(name: str, experts: str) -> None:
    """By hand: the model with the neurons' columns of the down projections set to zero."""
    subject = neurons_of(name, experts)
    model = subject.model
    site = subject.sites[0]
    inner = len(site.labels) // EXPERTS
    assert site.labels[inner + 3].endswith("E1N3")
    group = (3, inner + 1, 4 * inner + inner - 1)
    changed = deepcopy(model)
    down = expert_modules(changed)[0].down_proj.data
    down = down if name == "gpt_oss" else down.mT  # [experts, neurons, width]
    for unit in group:
        down[unit // inner, unit % inner] = 0
    expected, before = looks_by_hand(changed), looks_by_hand(model)
    assert looks(subject, group, method("intervention", "zero")) == pytest.approx(expected, abs=1e-3)
    assert np.abs(before - expected).max() > 0.01


def test_a_neuron_of_an_expert_hands_on_its_weighted_activation() -> None:
    """OLMoE: w silu(gate x) * up x, and nothing for tokens that are not routed to the expert."""
    site = neurons_of("olmoe", "eager").sites[1]
    module, inner = site.module, len(site.labels) // EXPERTS
    hidden = torch.randn(3, SIZES["hidden_size"], generator=torch.Generator().manual_seed(0))
    chosen, weights = torch.tensor([[0, 4], [5, 1], [4, 2]]), torch.tensor([[0.5, 0.2], [0.9, 0.3], [0.1, 0.7]])
    with torch.inference_mode():
        found = site.values((hidden[None], chosen[None], weights[None]), hidden[None])[0].reshape(3, EXPERTS, inner)
        expected = torch.zeros_like(found)
        for token in range(3):
            for place, expert in enumerate(chosen[token].tolist()):
                gate, up = (module.gate_up_proj[expert] @ hidden[token]).chunk(2)
                expected[token, expert] = weights[token, place] * nn.functional.silu(gate) * up
    assert torch.allclose(found, expected, atol=1e-5)


@given(st.integers(0, 2**16), st.integers(1, 5), st.integers(2, 6))
def test_swapping_keeps_the_total_weight_and_never_uses_an_ablated_unit(seed: int, tokens: int, units: int) -> None:
    rng = np.random.default_rng(seed)
    weights = torch.from_numpy(rng.random((2, tokens, units)) * rng.integers(0, 2, (2, tokens, units)))
    ablated = torch.from_numpy(rng.random((2, 1, units)) < 0.4)
    ablated[..., 0] = False
    new = method("intervention", "swap")(
        weights=weights, ablated=ablated, traffic=torch.from_numpy(rng.random((1, units)))
    )
    assert torch.allclose(new.sum(-1), weights.sum(-1))
    assert not new[ablated.expand_as(new)].any()


@given(st.integers(0, 2**16), st.integers(1, 5), st.integers(2, 6))
def test_renormalising_keeps_the_sum_and_the_proportions(seed: int, tokens: int, units: int) -> None:
    rng = np.random.default_rng(seed)
    weights = torch.from_numpy(rng.random((2, tokens, units)) * rng.integers(0, 2, (2, tokens, units)))
    ablated = torch.from_numpy(rng.random((2, 1, units)) < 0.4)
    new = method("intervention", "renormalise")(weights=weights, ablated=ablated)
    left = weights.masked_fill(ablated, 0)
    some = left.sum(-1) > 0
    assert torch.allclose(new.sum(-1)[some], weights.sum(-1)[some])
    assert torch.allclose(new * left.sum(-1, keepdim=True), left * new.sum(-1, keepdim=True))
    untouched = ~(ablated & (weights > 0)).any(-1)
    assert torch.equal(new[untouched], weights[untouched])


def test_patching_an_expert_with_itself_changes_nothing() -> None:
    subject = subject_of("mixtral")
    found = subject.evaluate(batch(), [(), (0, 7)], Output(), LOOKS)
    assert found[:, 0] == pytest.approx(found[:, 1], abs=1e-5)


# ----------------------------------------------------------------------------------------------------------------------
# Refusals
# ----------------------------------------------------------------------------------------------------------------------


def test_a_dense_model_has_no_experts() -> None:
    with pytest.raises(HarnessError, match=r"is a dense model: it has no experts.(?s:.*)subject.path=tiny_moe"):
        sites_of_families(GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=2, n_embd=8, vocab_size=16)), ["experts"])


def test_rerouting_around_more_experts_than_are_left_is_refused() -> None:
    subject = subject_of("olmoe")
    group = members(subject, {0: {0, 1, 2, 3, 4}})
    with pytest.raises(HarnessError, match=r"L0.experts: a token goes to 2 of 6 experts, and only 1 are left"):
        looks(subject, group, method("intervention", "reroute"))


def test_swapping_all_experts_of_a_layer_is_refused() -> None:
    subject = subject_of("olmoe")
    with pytest.raises(HarnessError, match="swap: all 6 units of a site are ablated"):
        looks(subject, members(subject, {0: set(range(6))}), method("intervention", "swap"))


def test_an_expert_that_is_never_used_changes_nothing_whatever_replaces_it() -> None:
    """A correction bias of -100: the router never chooses expert 3. Its mean over no token is zero."""
    model = deepcopy(model_of("deepseek_v3"))
    for name, values in model.named_buffers():
        if "correction_bias" in name:
            values[3] = -100
    subject = HookedSubject(model, sites_of_families(model, ["experts"]), vocabulary_of(model), "never")
    for intervention in ("zero", "renormalise", "reroute", "swap", "mean", "routed_mean"):
        found = subject.evaluate(batch(), [(), (3,)], method("intervention", intervention), LOOKS)
        assert np.isfinite(found).all()
        assert found[:, 0] == pytest.approx(found[:, 1], abs=1e-4), intervention


def test_experts_and_their_neurons_are_no_units_of_one_subject() -> None:
    with pytest.raises(HarnessError, match="every neuron is part of an expert"):
        sites_of_families(model_of("olmoe"), ["experts", "expert_neurons"])


def test_heads_cannot_be_rerouted() -> None:
    model = exact_model_of("olmoe")
    heads = HookedSubject(model, sites_of_families(model, ["heads"]), vocabulary_of(model), "heads")
    with pytest.raises(HarnessError, match="intervention reroute asks for 'rerouted'"):
        looks(heads, (1,), method("intervention", "reroute"))


def test_attribution_is_refused_where_an_intervention_changes_weights() -> None:
    subject = subject_of("olmoe")
    signal, metric = method("signal", "attribution"), method("metric", "target_logit")
    reader = FirstOrder(signal, method("intervention", "renormalise"), metric)
    with pytest.raises(HarnessError, match="renormalise changes the weights of a mixture"):
        subject.record(batch(), {"signal": reader})
