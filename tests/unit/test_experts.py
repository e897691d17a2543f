"""Experts as units: what they hand on and what ablating them does, against forward passes written by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import Float
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel

from harness import HarnessError, Intervention, Prediction, method
from harness.data.first_order import FirstOrder
from harness.engine.families import sites_of_families
from harness.engine.hooked import HookedSubject
from harness.engine.subject import vocabulary_of
from harness.testing.probes import Look, Output
from tests.unit.mixtures import CONFIGS, EXPERTS, IMPLEMENTATIONS, batch, model_of

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


@pytest.mark.parametrize("experts", ["exact", *IMPLEMENTATIONS])
@pytest.mark.parametrize("name", CONFIGS)
def test_dropping_and_renormalising_are_those_of_a_forward_pass_by_hand(name: str, experts: str) -> None:
    """The reference calls the eager module with all experts, most of them with the weight 0."""
    reference, subject = exact_model_of(name), subject_of(name, experts)
    for ablated in ABLATED:
        group = members(subject, ablated)
        for intervention, change in (("zero", zeroed), ("renormalise", scaled_up)):
            with with_weights(reference, ablated, change):
                expected = looks_by_hand(reference)
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
