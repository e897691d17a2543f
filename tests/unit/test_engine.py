"""The engine against the models themselves, and against one hook, condition and example at a time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import models as hf
from transformers.pytorch_utils import Conv1D

from harness.data.contracts import Metric
from harness.data.recording import Reader, Rows, Source
from harness.data.tokens import Tokens
from harness.engine.attention import Probe, _active, active, switched
from harness.engine.discovery import output_matrix
from harness.engine.subject import HeadSubject
from harness.util.errors import HarnessError


@dataclass(frozen=True)
class WholeRows(Reader):
    """Reads attention rows unchanged, padded to the length of the batch."""

    source: ClassVar[Source] = "attention"

    def read(self, rows: Rows) -> np.ndarray:
        length = rows.batch.tokens.shape[1]
        return np.pad(rows.values, [(0, 0), (0, 0), (0, length - rows.values.shape[2])])


@dataclass(frozen=True)
class Whole(Reader):
    """Reads a source unchanged."""

    source: Source

    def read(self, rows: Rows) -> np.ndarray:
        return rows.values


def conditions_for(subject: HeadSubject) -> list[tuple[int, ...]]:
    """No head; single heads early and late; across layers; a whole layer; all heads. Not in the order of layers."""
    n = len(subject.units)
    last_layer = subject.units.at_sites(subject.units.sites[-1:])
    return [(2, n - 3), (), (n - 1,), last_layer, (0,), (1, 5, n // 2, n - 2), tuple(range(n)), ()]


def as_heads(subject: HeadSubject, conditions):
    """Pairs of layer and head."""
    labels = [[subject.units.labels[unit][1:].split("H") for unit in group] for group in conditions]
    return [[(int(layer), int(head)) for layer, head in group] for group in labels]


def test_ablation_equals_a_hook_on_each_output_projection(
    architecture, ragged_batch, silence, every_logit, ablated_one_by_one
):
    subject = HeadSubject(architecture.build(), "test", tokens_per_pass=400)
    conditions = conditions_for(subject)
    ours = subject.evaluate(ragged_batch, conditions, silence, every_logit)
    reference = ablated_one_by_one(architecture, ragged_batch, as_heads(subject, conditions))
    np.testing.assert_allclose(ours[:, 1], reference[:, 1], atol=1e-5, rtol=1e-5)  # baseline: the model's own logits
    np.testing.assert_allclose(ours, reference, atol=1e-4 * np.abs(reference).max(), rtol=0)
    moved = np.abs(ours - ours[:, [1]]).max(axis=(0, 2))
    assert (moved[[0, 2, 3, 4, 5, 6]] > 1e-2).all(), "an ablation without effect shows nothing"
    assert (ours[:, 1] == ours[:, 7]).all()


def test_rows_and_outputs_are_those_of_eager_attention(architecture, ragged_batch):
    subject = HeadSubject(architecture.build(), "test", tokens_per_pass=40)
    found = subject.record(ragged_batch, {"rows": WholeRows(), "outputs": Whole("head_output")}).readings
    layers = sorted(set(subject.units.depth_of.tolist()))
    handed: dict[int, torch.Tensor] = {}
    handles = [
        architecture.eager.get_submodule(architecture.projection.format(layer)).register_forward_pre_hook(
            lambda _, args, layer=layer: handed.update({layer: args[0]})
        )
        for layer in layers
    ]
    for example, query in enumerate(ragged_batch.query):
        tokens = torch.from_numpy(ragged_batch.tokens[example : example + 1, : query + 1])
        with torch.no_grad():
            attentions = architecture.eager(tokens, output_attentions=True, use_cache=False).attentions
        attentions = [a for a in attentions if a is not None and a.ndim == 4]
        rows = torch.cat([a[0, :, -1] for a in attentions]).numpy()
        np.testing.assert_allclose(found["rows"][example, :, : query + 1], rows, atol=1e-5)
        assert (found["rows"][example, :, query + 1 :] == 0).all()
        outputs = torch.cat([handed[layer][0, -1].reshape(4, -1) for layer in layers]).numpy()
        if subject.model.config.model_type != "qwen3_5_text":  # it gates them on the way to the projection
            np.testing.assert_allclose(found["outputs"][example], outputs, atol=1e-5 * np.abs(outputs).max(), rtol=0)
    for handle in handles:
        handle.remove()


def test_a_sliding_window_limits_the_attention_rows(architectures, ragged_batch):
    subject = HeadSubject(architectures["mistral_sliding"].build(), "test")
    rows = subject.record(ragged_batch, {"rows": WholeRows()}).readings["rows"]
    for example, query in enumerate(ragged_batch.query):
        assert (rows[example, :, : query - 3] == 0).all()
        assert (rows[example, :, query - 3 : query + 1] > 0).all()


def test_contributions_are_the_output_projection_of_each_single_head(architecture, ragged_batch):
    model, reference = architecture.build(), architecture.build("eager")
    if model.config.model_type == "qwen3_5_text":
        pytest.skip("heads are gated on the way to the projection, and that is refused")
    for layer in range(4):
        projection = model.get_submodule(architecture.projection.format(layer))
        if projection.bias is not None:
            torch.nn.init.normal_(projection.bias)
    reference.load_state_dict(model.state_dict())
    projections = [reference.get_submodule(architecture.projection.format(layer)) for layer in range(4)]
    found = HeadSubject(model, "test", tokens_per_pass=40).record(ragged_batch, {"written": Whole("contribution")})
    for example, query in enumerate(ragged_batch.query):
        tokens = torch.from_numpy(ragged_batch.tokens[example : example + 1, : query + 1])
        for layer, (handed, written) in enumerate(through(projections, reference, tokens)):
            with torch.no_grad():
                nothing = projections[layer](torch.zeros_like(handed))
                alone = torch.eye(4).repeat_interleave(handed.shape[-1] // 4, dim=1) * handed
                expected = projections[layer](alone) - nothing
            ours = found.readings["written"][example, 4 * layer : 4 * layer + 4]
            tolerance = 1e-5 * float(written.abs().max())
            np.testing.assert_allclose(ours, expected, atol=tolerance, rtol=0)
            np.testing.assert_allclose(ours.sum(axis=0), (written - nothing)[0], atol=4 * tolerance, rtol=0)


def through(modules, model, tokens) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Input and output of each module at the last position while the model reads the tokens."""
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    handles = [
        module.register_forward_hook(lambda _, args, output: seen.append((args[0][0, -1:], output[0, -1:])))
        for module in modules
    ]
    with torch.no_grad():
        model(tokens, use_cache=False)
    for handle in handles:
        handle.remove()
    return seen


@pytest.mark.parametrize("kind", [torch.nn.Linear, Conv1D])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_matrix_of_a_projection_is_its_weight_even_with_a_large_bias(kind, dtype):
    projection = kind(12, 12).to(dtype)
    torch.nn.init.normal_(projection.weight, std=0.02)
    torch.nn.init.normal_(projection.bias, std=5)
    matrix = output_matrix(projection, torch.zeros(1, 3, 4, dtype=dtype)).reshape(12, 12)
    weight = (projection.weight if kind is Conv1D else projection.weight.T).detach().float()
    assert matrix.dtype == torch.float32
    np.testing.assert_allclose(matrix, weight, rtol=0, atol=2 * torch.finfo(dtype).eps * float(weight.abs().max()))


class Adapted(torch.nn.Module):
    """A linear module with a low-rank adapter."""

    def __init__(self, base: torch.nn.Module) -> None:
        super().__init__()
        self.base, self.beside = base, torch.nn.Linear(32, 32, bias=False)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.base(hidden) + self.beside(hidden)


def test_an_adapter_around_the_projection_is_part_of_it(architectures, ragged_batch):
    model = architectures["llama_gqa"].build()
    attention = model.model.layers[2].self_attn
    attention.o_proj = Adapted(attention.o_proj)
    found = HeadSubject(model, "test").record(ragged_batch, {"z": Whole("head_output"), "w": Whole("contribution")})
    weight = (attention.o_proj.base.weight + attention.o_proj.beside.weight).detach().numpy()
    handed, written = found.readings["z"][:, 8:12].reshape(6, 32), found.readings["w"][:, 8:12].sum(axis=1)
    np.testing.assert_allclose(written, handed @ weight.T, atol=1e-5 * np.abs(written).max())


def test_first_order_drops_are_slopes_along_a_mask_on_every_head(architecture, ragged_batch):
    """Independent computation: one example at a time, the gradient at a mask of ones on the projection's input."""
    subject = HeadSubject(architecture.build(), "test", tokens_per_pass=150)
    found = subject.record(ragged_batch, {"drop": Whole("first_order")}).readings["drop"][:, :, 0]
    assert found.std(axis=0).min() > 1e-3, "drops this small show nothing"
    for example in range(len(ragged_batch)):
        masks = {layer: torch.ones(4, requires_grad=True) for layer in sorted(set(subject.units.depth_of.tolist()))}
        logit = masked_target_logits(architecture, architecture.eager, ragged_batch, masks)[example]
        expected = np.concatenate(torch.autograd.grad(logit, list(masks.values())))
        np.testing.assert_allclose(found[example], expected, atol=1e-4 * np.abs(expected).max(), rtol=0)


def test_first_order_drops_are_finite_differences(architectures, ragged_batch):
    """In float64, which this model supports from end to end (others have norms in float32)."""
    architecture, hair = architectures["gpt2"], 1e-5
    found = HeadSubject(architecture.build(), "test").record(ragged_batch, {"drop": Whole("first_order")}).readings
    model = architecture.build("eager").double()
    for layer, head in [(0, 0), (1, 3), (2, 1), (3, 2)]:
        up, down = (torch.ones(4, dtype=torch.float64) for _ in range(2))
        up[head], down[head] = 1 + hair, 1 - hair
        above, below = (masked_target_logits(architecture, model, ragged_batch, {layer: m}) for m in (up, down))
        expected = ((above - below) / (2 * hair)).detach()
        np.testing.assert_allclose(found["drop"][:, 4 * layer + head, 0], expected, atol=1e-4)


def masked_target_logits(architecture, model, batch, masks) -> torch.Tensor:
    """The target logit at the query of each example if the heads of these layers are multiplied by their masks."""
    handles = []
    for layer, mask in masks.items():

        def multiply(_, args, mask=mask):
            heads = args[0].unflatten(-1, (4, -1)) * mask[:, None]
            return (heads.flatten(-2), *args[1:])

        projection = model.get_submodule(architecture.projection.format(layer))
        handles.append(projection.register_forward_pre_hook(multiply))
    logits = model(torch.from_numpy(batch.tokens), use_cache=False).logits
    for handle in handles:
        handle.remove()
    return logits[torch.arange(len(batch)), torch.from_numpy(batch.query), torch.from_numpy(batch.target)]


EVERY_SOURCE = {source: Whole(source) for source in ("head_output", "contribution", "first_order")}


def test_readings_do_not_depend_on_the_size_of_passes_or_on_other_readers(architectures, ragged_batch):
    model = architectures["gpt_neox"].build()
    together = HeadSubject(model, "test").record(ragged_batch, {**EVERY_SOURCE, "rows": WholeRows()}).readings
    for tokens_per_pass in (1, 150):
        subject = HeadSubject(model, "test", tokens_per_pass=tokens_per_pass)
        for name, reader in {**EVERY_SOURCE, "rows": WholeRows()}.items():
            alone = subject.record(ragged_batch, {name: reader}).readings[name]
            np.testing.assert_allclose(alone, together[name], atol=2e-5 * np.abs(alone).max(), rtol=0)


def test_tokens_after_the_query_change_nothing(architecture, ragged_batch, silence, every_logit):
    after = np.arange(16) > ragged_batch.query[:, None]
    changed = Tokens(
        "changed",
        np.where(after, -1, ragged_batch.tokens),  # a padding that is no token at all
        ragged_batch.query,
        ragged_batch.target,
        ragged_batch.anchors,
        ragged_batch.target_kind,
    )
    assert changed.digest == ragged_batch.digest
    subject = HeadSubject(architecture.build(), "test")
    conditions = conditions_for(subject)[:4]
    one, other = (subject.evaluate(batch, conditions, silence, every_logit[:5]) for batch in (ragged_batch, changed))
    assert (one == other).all()
    one, other = (subject.record(batch, {"rows": WholeRows()}).readings["rows"] for batch in (ragged_batch, changed))
    assert (one == other).all()


@pytest.mark.unchecked  # hundreds of small passes
def test_the_size_of_passes_changes_no_result(architecture, ragged_batch, silence, every_logit):
    model = architecture.build()
    results, rows = [], []
    for tokens_per_pass in (1, 150, 100_000):
        subject = HeadSubject(model, "test", tokens_per_pass=tokens_per_pass)
        results.append(subject.evaluate(ragged_batch, conditions_for(subject), silence, every_logit[::8]))
        rows.append(subject.record(ragged_batch, {"rows": WholeRows()}).readings["rows"])
    for other in (1, 2):
        np.testing.assert_allclose(results[other], results[0], atol=1e-5 * np.abs(results[0]).max(), rtol=0)
        np.testing.assert_allclose(rows[other], rows[0], atol=1e-5)


def state_of(model):
    hooks = {
        (name, kind): list(getattr(module, kind))
        for name, module in model.named_modules()
        for kind in vars(module)
        if kind.endswith("_hooks")
    }
    configs = [module.config._attn_implementation for module in model.modules() if hasattr(module, "config")]
    inner = [getattr(model.config, key)._attn_implementation for key in model.config.sub_configs]
    training = [module.training for module in model.modules()]
    learning = [(parameter.requires_grad, parameter.grad is None) for parameter in model.parameters()]
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    return (hooks, configs, inner, training, learning), weights


def assert_as_found(model, before):
    after = state_of(model)
    assert after[0] == before[0]
    assert after[1].keys() == before[1].keys()
    assert all(torch.equal(after[1][name], before[1][name]) for name in before[1])
    assert _active.get() is None


@dataclass(frozen=True)
class Raises(Metric):
    """A metric that breaks in the middle of a pass."""

    error: type[Exception]
    name: ClassVar[str] = "raises"
    damage: ClassVar[int] = 1

    def __call__(self, _):
        raise self.error


class BreaksOff(Reader):
    """A reader that breaks in the middle of a pass."""

    source: ClassVar[Source] = "attention"

    def read(self, _):
        raise ZeroDivisionError


def test_the_model_is_restored_after_use(architecture, ragged_batch, silence, every_logit):
    model = architecture.build("eager").train()
    next(model.children()).eval()  # parts of it may be in another mode
    next(model.parameters()).requires_grad_(False)
    before = state_of(model)
    subject = HeadSubject(model, "test")
    assert_as_found(model, before)
    subject.record(ragged_batch, {"rows": WholeRows()})
    subject.record(ragged_batch, {"drop": Whole("first_order")})
    subject.evaluate(ragged_batch, conditions_for(subject), silence, every_logit[:2])
    assert_as_found(model, before)
    with pytest.raises(ZeroDivisionError):
        subject.record(ragged_batch, {"drop": Whole("first_order"), "rows": BreaksOff()})
    assert_as_found(model, before)
    with pytest.raises(ZeroDivisionError):
        subject.evaluate(ragged_batch, conditions_for(subject), silence, [Raises(ZeroDivisionError)])
    assert_as_found(model, before)


def test_nested_configurations_are_restored(ragged_batch, silence, every_logit, architectures):
    config = hf.LlavaConfig(
        vision_config=hf.CLIPVisionConfig(
            hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=8, patch_size=4
        ),
        text_config=architectures["llama_gqa"].config(),
        image_token_index=3,
    )
    model = hf.LlavaForConditionalGeneration(config).eval()
    model.set_attn_implementation({"": "sdpa", "text_config": "eager", "vision_config": "sdpa"})
    before = state_of(model)
    assert len(set(before[0][2])) == 2
    subject = HeadSubject(model, "test")
    subject.evaluate(ragged_batch, [(), (0,)], silence, every_logit[:2])
    assert_as_found(model, before)
    assert len(subject.units) == 16


@pytest.mark.unchecked  # hundreds of small passes
def test_progress_adds_up_to_examples_times_conditions(architectures, ragged_batch, silence, every_logit):
    for tokens_per_pass in (1, 150, 100_000):
        subject = HeadSubject(architectures["gpt2"].build(), "test", tokens_per_pass=tokens_per_pass)
        ticks: list[int] = []
        conditions = conditions_for(subject)
        subject.evaluate(ragged_batch, conditions, silence, every_logit[:1], ticks.append)
        assert sum(ticks) == len(conditions) * len(ragged_batch)
        for readers in ({}, EVERY_SOURCE):
            ticks.clear()
            subject.record(ragged_batch, readers, ticks.append)
            assert sum(ticks) == len(ragged_batch)


@pytest.fixture(scope="module")
def mixture(architectures) -> HeadSubject:
    """One subject for every example of a property."""
    return HeadSubject(architectures["olmoe"].build(), "test")


@pytest.mark.unchecked  # hundreds of small passes
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_ablating_a_set_does_not_depend_on_its_order(data, mixture, ragged_batch, silence, every_logit):
    subject = mixture
    group = data.draw(st.lists(st.integers(0, len(subject.units) - 1), unique=True, max_size=6))
    shuffled = data.draw(st.permutations(group))
    some = ragged_batch.take(np.array([0, 3]))
    ours = subject.evaluate(some, [tuple(group), (), tuple(shuffled)], silence, every_logit[:8])
    # To the rounding of kernels, which may treat the rows of one pass differently.
    np.testing.assert_allclose(ours[:, 0], ours[:, 2], atol=1e-5)
    if not group:
        assert (ours[:, 0] == ours[:, 1]).all()


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_ablating_one_group_by_a_hook_and_another_by_the_engine_ablates_both(
    architecture, ragged_batch, silence, every_logit
):
    """A separate hook ablates the first heads and the engine ablates the others; the result is the same."""
    subject = HeadSubject(architecture.build(), "test")
    n = len(subject.units)
    first, second = (1, n - 2), (0, n - 1)
    both = subject.evaluate(ragged_batch, [tuple(sorted(first + second))], silence, every_logit)
    handles = []
    for unit in first:
        head = subject.units.units[unit]
        of_layer = subject.units.at_sites([head.site])
        at, count = of_layer.index(unit), len(of_layer)

        def mute(_, args, place=at, heads=count):
            hidden = args[0].clone()
            width = hidden.shape[-1] // heads
            hidden[..., place * width : (place + 1) * width] = 0
            return (hidden, *args[1:])

        projection = subject.model.get_submodule(architecture.projection.format(head.depth))
        handles.append(projection.register_forward_pre_hook(mute))
    one_by_one = subject.evaluate(ragged_batch, [second], silence, every_logit)
    for handle in handles:
        handle.remove()
    np.testing.assert_allclose(one_by_one, both, atol=1e-4 * np.abs(both).max(), rtol=0)


def test_gpt_neo_is_refused_by_name():
    config = hf.GPTNeoConfig(
        vocab_size=48, hidden_size=32, num_layers=2, num_heads=4, attention_types=[[["global", "local"], 1]]
    )
    model = hf.GPTNeoForCausalLM(config)
    before = state_of(model)
    with pytest.raises(HarnessError, match=r"GPTNeoForCausalLM cannot be intercepted.*AttentionInterface"):
        HeadSubject(model, "test")
    assert_as_found(model, before)


def test_a_model_with_non_causal_attention_is_refused():
    config = hf.BertConfig(
        vocab_size=48, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=32
    )
    with pytest.raises(HarnessError, match="not a causal model"):
        HeadSubject(hf.BertLMHeadModel(config), "test")


def test_a_non_causal_mask_is_refused(architectures, monkeypatch):
    def open_mask(inputs_embeds, **_):
        return torch.zeros(1, 1, inputs_embeds.shape[1], inputs_embeds.shape[1])

    monkeypatch.setattr(hf.llama.modeling_llama, "create_causal_mask", open_mask)
    with pytest.raises(HarnessError, match="a token sees later tokens"):
        HeadSubject(architectures["llama_gqa"].build(), "test")


def test_attention_sinks_are_refused():
    sizes = {"vocab_size": 48, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "head_dim": 8}
    config = hf.GptOssConfig(**sizes, num_key_value_heads=2, intermediate_size=16, num_local_experts=2)
    with pytest.raises(HarnessError, match="sinks"):
        HeadSubject(hf.GptOssForCausalLM(config), "test")


def test_attention_with_an_unknown_bias_is_refused(architectures, monkeypatch):
    model = architectures["llama_gqa"].build("eager")
    original = hf.llama.modeling_llama.eager_attention_forward

    def biased(module, query, key, value, attention_mask, **kwargs):
        distance = torch.arange(key.shape[-2]) - torch.arange(query.shape[-2])[:, None]
        return original(module, query, key, value, attention_mask + distance, **kwargs)

    monkeypatch.setattr(hf.llama.modeling_llama, "eager_attention_forward", biased)
    with pytest.raises(HarnessError, match="does more than softmax"):
        HeadSubject(model, "test")


def test_an_unknown_source_is_refused_with_the_available_ones(architectures, ragged_batch):
    subject = HeadSubject(architectures["qwen3"].build(), "mini")
    with pytest.raises(HarnessError, match="signal reads 'router', which subject mini does not have") as caught:
        subject.record(ragged_batch, {"signal": Whole("router")})
    assert "It has: attention, head_output, activation, contribution, first_order" in caught.value.fix


def test_contributions_of_gated_heads_are_refused(architectures, ragged_batch):
    subject = HeadSubject(architectures["qwen3_5_hybrid"].build(), "mini")
    with pytest.raises(HarnessError, match=r"signal reads 'contribution': in layers 1, 3 of mini") as caught:
        subject.record(ragged_batch, {"signal": Whole("contribution")})
    assert "signal=max_attention" in caught.value.fix
    subject.record(ragged_batch, {"signal": Whole("head_output")})


def test_a_norm_before_the_projection_is_not_mistaken_for_it(ragged_batch):
    config = hf.BitNetConfig(
        vocab_size=48, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=32,
        num_key_value_heads=4,
    )  # fmt: skip
    subject = HeadSubject(hf.BitNetForCausalLM(config).eval(), "mini")
    with pytest.raises(HarnessError, match=r"layers 0, 1 of mini a gate or a norm lies"):
        subject.record(ragged_batch, {"signal": Whole("contribution")})


def test_a_pass_that_does_not_fit_is_refused_with_the_setting_to_change(architectures, ragged_batch, silence):
    subject = HeadSubject(architectures["gpt2"].build(), "test")
    with pytest.raises(HarnessError, match=r"(?s)a pass of 6144 tokens.*subject\.memory=1024MiB"):
        subject.evaluate(ragged_batch, [()], silence, [Raises(torch.OutOfMemoryError)])


def test_nan_is_refused(architectures, ragged_batch, silence, every_logit):
    model = architectures["gpt2"].build()
    with torch.no_grad():
        model.transformer.ln_f.weight[0] = float("nan")
    with pytest.raises(HarnessError, match="NaN"):
        HeadSubject(model, "test").evaluate(ragged_batch, [()], silence, every_logit[:1])


@pytest.mark.parametrize(("name", "causal"), [("gpt2", True), ("llama_gqa", True), ("mistral_sliding", False)])
def test_a_mask_has_one_row_for_all_examples_and_states_whether_it_is_causal(architectures, name, causal):
    """Positions hidden by a causal mask are not computed; a window hides more."""
    model, seen = architectures[name].build(), []

    def keep(_, heads):
        seen.append(heads)
        return heads.outputs()

    tokens = torch.arange(48).reshape(3, 16)
    with switched(model), active(Probe(torch.zeros(3, dtype=torch.long), compute=keep)), torch.inference_mode():
        model(tokens, use_cache=False)
    assert {heads.causal for heads in seen} == {causal}
    for heads in seen:
        assert len(heads.mask) == 1
        assert torch.equal(heads.mask[0, 0] == 0, torch.ones(16, 16, dtype=torch.bool).tril()) is causal
        masked = replace(heads, causal=False)
        torch.testing.assert_close(heads.outputs(), masked.outputs())
