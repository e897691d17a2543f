"""Families of decoder units, against hooks written by hand: one example, one condition, one eager pass each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers import models as hf

from harness.cells.spent import of_closure, of_recording
from harness.data.batch import Counterfactual
from harness.data.recording import Reader, Rows, Source
from harness.data.tokens import Tokens
from harness.engine.families import FAMILIES, sites_of_families
from harness.engine.hooked import HookedSubject
from harness.engine.subject import HeadSubject, vocabulary_of
from harness.registry.config import registry
from harness.util.errors import HarnessError

pytestmark = pytest.mark.unchecked

LAYERS = 4
LARGE = {"initializer_range": 0.3}  # or ablations change too little to see an error
SIZES = {"vocab_size": 48, "hidden_size": 32, "num_hidden_layers": LAYERS, "num_attention_heads": 4,
         "intermediate_size": 48, "max_position_embeddings": 64, "pad_token_id": 0, **LARGE}  # fmt: skip
GROUPED = {**SIZES, "num_key_value_heads": 2, "head_dim": 8}
EXPERTS = {**GROUPED, "num_experts": 4, "num_experts_per_tok": 2, "num_local_experts": 4}
GPT = {"vocab_size": 48, "n_embd": 32, "n_layer": LAYERS, "n_head": 4, "n_positions": 64, **LARGE}
CONFIGS: Mapping[str, Callable[[], Any]] = {
    "gpt2": lambda: hf.GPT2Config(**GPT),
    "llama_gqa": lambda: hf.LlamaConfig(**GROUPED),
    "gpt_neox": lambda: hf.GPTNeoXConfig(**SIZES),
    "gpt_neo": lambda: hf.GPTNeoConfig(
        vocab_size=48, hidden_size=32, num_layers=LAYERS, num_heads=4, max_position_embeddings=64,
        attention_types=[[["global", "local"], 2]], window_size=4, **LARGE,
    ),
    "opt": lambda: hf.OPTConfig(
        vocab_size=48, hidden_size=32, num_hidden_layers=LAYERS, num_attention_heads=4, ffn_dim=48,
        max_position_embeddings=64, word_embed_proj_dim=32, init_std=0.3,
    ),
    "bloom": lambda: hf.BloomConfig(vocab_size=48, hidden_size=32, n_layer=LAYERS, n_head=4, **LARGE),
    "mpt": lambda: hf.MptConfig(vocab_size=48, d_model=32, n_layers=LAYERS, n_heads=4, max_seq_len=64, **LARGE),
    "olmoe": lambda: hf.OlmoeConfig(**EXPERTS),
    "mamba": lambda: hf.MambaConfig(vocab_size=48, hidden_size=32, num_hidden_layers=LAYERS, state_size=4),
    "deepseek_v3": lambda: hf.DeepseekV3Config(
        **{**SIZES, "num_key_value_heads": 4}, n_routed_experts=4, num_experts_per_tok=2, moe_intermediate_size=16,
        first_k_dense_replace=2, q_lora_rank=8, kv_lora_rank=8, qk_rope_head_dim=4, qk_nope_head_dim=4, v_head_dim=8,
        n_group=2, topk_group=1,
    ),
    "qwen3_5": lambda: hf.Qwen3_5TextConfig(
        **GROUPED, layer_types=["linear_attention", "full_attention"] * 2, linear_num_key_heads=2,
        linear_num_value_heads=2, linear_key_head_dim=8, linear_value_head_dim=8,
    ),
}  # fmt: skip


@cache
def model_of(name: str, attention: str | None = None) -> PreTrainedModel:
    torch.manual_seed(0)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(CONFIGS[name](), attn_implementation=attention).eval()
    return model


@cache
def subject_of(name: str, *families: str) -> HookedSubject:
    model = model_of(name)
    return HookedSubject(model, sites_of_families(model, families), vocabulary_of(model), name)


def build(name: str, **parameters: Any) -> Any:
    return registry().get("intervention", name).build(parameters)


def tokens(seed: int, query: Sequence[int]) -> Tokens:
    """Random tokens; most examples have tokens after the query."""
    rng = np.random.default_rng(seed)
    ids, others = rng.integers(3, 48, (2, len(query), 11))
    target, answer = rng.integers(3, 48, (2, len(query)))
    return Tokens("made", ids, np.array(query), target, {}, "successor", counterfactual=Counterfactual(others, answer))


BATCH, REFERENCE = tokens(1, [9, 5, 7]), tokens(2, [10, 6])


# -- by hand -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """``what`` the units of a layer are: equal blocks of a module's input, its whole output, or output minus input."""

    path: str
    what: Literal["input", "output", "change"]
    units: int = 1


def places(heads: str, groups: int, down: str, neurons: int, mlp: str, block: str) -> dict[str, Place]:
    return {
        "heads": Place(heads, "input", 4),
        "kv_groups": Place(heads, "input", groups),
        "mlp_neurons": Place(down, "input", neurons),
        "mlp_layers": Place(mlp, "output"),
        "stream": Place(block, "change"),
    }


GPT2 = "transformer.h.{}"
LLAMA = "model.layers.{}"
NEOX = "gpt_neox.layers.{}"
OPT = "model.decoder.layers.{}"
PLACES = {
    "gpt2": places(f"{GPT2}.attn.c_proj", 4, f"{GPT2}.mlp.c_proj", 128, f"{GPT2}.mlp", GPT2),
    "llama_gqa": places(f"{LLAMA}.self_attn.o_proj", 2, f"{LLAMA}.mlp.down_proj", 48, f"{LLAMA}.mlp", LLAMA),
    "gpt_neox": places(f"{NEOX}.attention.dense", 4, f"{NEOX}.mlp.dense_4h_to_h", 48, f"{NEOX}.mlp", NEOX),
    "gpt_neo": places("", 0, f"{GPT2}.mlp.c_proj", 128, f"{GPT2}.mlp", GPT2),
    "opt": places(f"{OPT}.self_attn.out_proj", 4, f"{OPT}.fc2", 48, f"{OPT}.fc2", OPT),
}
OF_MIXTURES = {"depth_routes", "expert_neurons", "experts"}  # these models have none
CASES = [
    (name, family) for name in ("gpt2", "llama_gqa", "gpt_neox") for family in FAMILIES if family not in OF_MIXTURES
]
CASES += [(name, family) for name in ("gpt_neo", "opt") for family in ("mlp_layers", "mlp_neurons", "stream")]
Change = Callable[[int, torch.Tensor], torch.Tensor]
"""Layer, and what its units hand on [positions, units, width] -> what they hand on instead."""


def texts(batch: Tokens) -> list[np.ndarray]:
    return [ids[: query + 1] for ids, query in zip(batch.tokens, batch.query, strict=True)]


def first(output: Any) -> torch.Tensor:
    return output[0] if isinstance(output, tuple) else output


def run(name: str, place: Place, ids: np.ndarray, change: Change) -> np.ndarray:
    """The logits of the last position."""
    model = model_of(name, "eager")

    def before(layer: int) -> Any:
        def hook(_: Any, args: Any) -> Any:
            blocks = args[0].reshape(len(ids), place.units, -1)
            return (change(layer, blocks).reshape(args[0].shape), *args[1:])

        return hook

    def after(layer: int) -> Any:
        def hook(_: Any, args: Any, output: Any) -> Any:
            base = args[0] if place.what == "change" else torch.zeros_like(first(output))
            handed_on = (first(output) - base).reshape(len(ids), 1, -1)
            changed = base + change(layer, handed_on).reshape(base.shape)
            return (changed, *output[1:]) if isinstance(output, tuple) else changed

        return hook

    handles = []
    for layer in range(LAYERS):
        module = model.get_submodule(place.path.format(layer))
        if place.what == "input":
            handles.append(module.register_forward_pre_hook(before(layer)))
        else:
            handles.append(module.register_forward_hook(after(layer)))
    try:
        with torch.no_grad():
            logits: np.ndarray = model(torch.from_numpy(ids[None]), use_cache=False).logits[0, -1].numpy()
            return logits
    finally:
        for handle in handles:
            handle.remove()


def handed_on(name: str, place: Place, batch: Tokens) -> list[dict[int, torch.Tensor]]:
    """By example and layer, what the units hand on in a baseline pass."""
    found: list[dict[int, torch.Tensor]] = []
    for ids in texts(batch):
        found.append({})

        def keep(layer: int, values: torch.Tensor) -> torch.Tensor:
            found[-1][layer] = values.clone()
            return values

        run(name, place, ids, keep)
    return found


def ablated_by_hand(name: str, place: Place, group: Sequence[int], method: Any) -> np.ndarray:
    """The logits of every example with these units ablated [vocabulary, examples]."""
    donors = handed_on(name, place, method.donors(BATCH)) if method.name in ("resample", "patching") else None
    over = handed_on(name, place, BATCH if method.over == "batch" else REFERENCE)

    def replacement(layer: int, example: int, position: int, unit: int) -> Any:
        if method.name == "zero":
            return 0.0
        if donors is not None:
            return donors[example][layer][position, unit]
        if method.per == "position":
            seen = [values[layer][position, unit] for values in over if len(values[layer]) > position]
        else:
            seen = [row[unit] for values in over for row in values[layer]]
        return torch.stack(seen).double().mean(dim=0).float()

    logits = []
    for example, ids in enumerate(texts(BATCH)):

        def change(layer: int, values: torch.Tensor, example: int = example) -> torch.Tensor:
            changed = values.clone()
            for unit in (u % place.units for u in group if u // place.units == layer):
                for position in range(len(values)) if method.positions == "all" else [len(values) - 1]:
                    changed[position, unit] = replacement(layer, example, position, unit)
            return changed

        logits.append(run(name, place, ids, change))
    return np.stack(logits, axis=1)


@pytest.mark.parametrize("positions", ["all", "query"])
@pytest.mark.parametrize(
    ("intervention", "parameters"),
    [
        ("zero", {}),
        ("mean", {}),
        ("mean", {"per": "position"}),
        ("mean", {"over": "batch"}),
        ("resample", {"seed": 3}),
        ("patching", {}),
    ],
)
@pytest.mark.parametrize(("name", "family"), CASES)
def test_units_are_ablated_as_by_hooks_written_by_hand(
    name: str, family: str, intervention: str, parameters: dict[str, Any], positions: str, every_logit: Any
) -> None:
    subject, place = subject_of(name, family), PLACES[name][family]
    assert len(subject.units) == LAYERS * place.units
    method = build(intervention, **parameters, positions=positions)
    n = place.units
    groups = [(0, 4 * n - 1), (n, 2 * n), tuple(range(2 * n, 3 * n))]  # the last: all units of a layer
    found = subject.evaluate(BATCH, [(), *groups], method, every_logit, reference=REFERENCE)
    for row, group in enumerate(groups, start=1):
        expected = ablated_by_hand(name, place, group, method)
        np.testing.assert_allclose(found[:, row], expected, atol=2e-4 * np.abs(expected).max())
        assert np.abs(found[:, row] - found[:, 0]).max() > 1e-4


# -- what the units are ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "labels", "site", "name"),
    [
        ("heads", ["L0H0", "L3H3"], "L3.attn", "head"),
        ("kv_groups", ["L0K0", "L3K1"], "L3.attn", "kv_group"),
        ("mlp_neurons", ["L0N0", "L3N47"], "L3.neurons", "neuron"),
        ("mlp_layers", ["L0.mlp", "L3.mlp"], "L3.mlp", "mlp"),
        ("stream", ["L0.stream", "L3.stream"], "L3.stream", "stream"),
    ],
)
def test_units_have_the_labels_and_sites_of_their_family(family: str, labels: list[str], site: str, name: str) -> None:
    units = subject_of("llama_gqa", family).units
    assert [units.labels[0], units.labels[-1]] == labels
    assert (units.units[-1].site, units.units[-1].depth, units.units[-1].family) == (site, 3, name)


@pytest.mark.parametrize("intervention", ["zero", "mean", "resample", "patching"])
def test_heads_in_a_mixed_space_have_the_values_of_a_subject_of_heads(intervention: str, every_logit: Any) -> None:
    mixed = subject_of("llama_gqa", "heads", "mlp_layers", "mlp_neurons", "stream")
    alone = HeadSubject(model_of("llama_gqa"), "heads")
    method = build(intervention)
    groups = [(), (0,), (1, 6), (5, 10, 15)]
    expected = alone.evaluate(BATCH, groups, method, every_logit, reference=REFERENCE)
    same = [mixed.units.find(alone.units.names(group)) for group in groups]
    found = mixed.evaluate(BATCH, same, method, every_logit, reference=REFERENCE)
    np.testing.assert_allclose(found, expected, atol=2e-4 * np.abs(expected).max())


@pytest.mark.parametrize("intervention", ["zero", "mean", "resample", "patching"])
def test_a_kv_group_is_its_query_heads(intervention: str, every_logit: Any) -> None:
    """Query heads h share the key-value head h // 2 (transformers' repeat_kv)."""
    heads, groups = subject_of("llama_gqa", "heads"), subject_of("llama_gqa", "kv_groups")
    method = build(intervention)
    expected = heads.evaluate(BATCH, [(0, 1), (2, 3, 12, 13)], method, every_logit, reference=REFERENCE)
    found = groups.evaluate(BATCH, [(0,), (1, 6)], method, every_logit, reference=REFERENCE)
    np.testing.assert_allclose(found, expected, atol=2e-4 * np.abs(expected).max())


@pytest.mark.parametrize("name", ["llama_gqa", "opt"])
def test_a_unit_that_contains_others_is_ablated_whole(name: str, every_logit: Any) -> None:
    """In OPT the MLP and its neurons are at one module."""
    subject = subject_of(name, "mlp_neurons", "mlp_layers", "stream")

    def values(*labels: str) -> np.ndarray:
        return subject.evaluate(BATCH, [subject.units.find(labels)], build("zero"), every_logit)[:, 0]

    np.testing.assert_allclose(values("L1N3", "L1.mlp"), values("L1.mlp"), atol=1e-4)
    np.testing.assert_allclose(values("L1N3", "L1.mlp", "L1.stream", "L2N5"), values("L1.stream", "L2N5"), atol=1e-4)


@pytest.mark.parametrize(
    ("name", "down"),
    [
        ("bloom", "transformer.h.{}.mlp.dense_4h_to_h"),
        ("mpt", "transformer.blocks.{}.ffn.down_proj"),
        ("gpt2", "transformer.h.{}.mlp.c_proj"),
        ("olmoe", "model.layers.{}.mlp.experts"),
    ],
)
def test_without_its_mlp_a_model_is_the_one_with_zero_weights_there(name: str, down: str, every_logit: Any) -> None:
    """The MLPs of BLOOM and MPT return the residual stream plus what they write."""
    silenced = AutoModelForCausalLM.from_config(CONFIGS[name]()).eval()
    silenced.load_state_dict(model_of(name).state_dict())
    with torch.no_grad():
        for layer in (0, 2):
            for weight in silenced.get_submodule(down.format(layer)).parameters():
                weight.zero_()
        logits = [silenced(torch.from_numpy(ids[None])).logits[0, -1].numpy() for ids in texts(BATCH)]
    found = subject_of(name, "mlp_layers").evaluate(BATCH, [(0, 2)], build("zero"), every_logit)[:, 0]
    expected = np.stack(logits, axis=1)
    np.testing.assert_allclose(found, expected, atol=2e-4 * np.abs(expected).max())


def test_neurons_of_some_layers_only() -> None:
    model = model_of("deepseek_v3")  # experts from layer 2 on
    assert [site.name for site in sites_of_families(model, ["mlp_neurons"], [1])] == ["L1.neurons"]
    assert [site.name for site in sites_of_families(model, ["mlp_neurons"], [1, 0, 1])] == ["L0.neurons", "L1.neurons"]


# -- refusals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "families", "layers", "message"),
    [
        ("gpt_neo", ["heads"], None, "the attention of GPTNeoForCausalLM cannot be intercepted"),
        ("olmoe", ["mlp_neurons"], None, "the MLP of layer 0 consists of experts, so it has no dense neurons"),
        ("deepseek_v3", ["mlp_neurons"], None, "the MLP of layer 2 consists of experts"),
        ("llama_gqa", ["mlp_neurons"], [1, 4], r"subject\.layers=\[1, 4\]: the model has no layer 4"),
        ("llama_gqa", ["mlp_neurons"], [-1], "the model has no layer -1"),
        ("mamba", ["mlp_layers"], None, "the block of layer 0 has no MLP; its parts: mixer"),
        ("qwen3_5", ["kv_groups"], None, "layer 1 gates or normalises the outputs of heads"),
        ("llama_gqa", ["heads", "kv_groups"], None, "every head is part of a KV group"),
    ],
)
def test_what_does_not_fit_is_refused_by_a_sentence(
    name: str, families: list[str], layers: list[int] | None, message: str
) -> None:
    with pytest.raises(HarnessError, match=message) as caught:
        sites_of_families(model_of(name), families, layers)
    assert caught.value.fix


# -- recordings --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AsTheyAre(Reader):
    """What units hand on, flattened."""

    source: ClassVar[Source] = "activation"

    def read(self, rows: Rows) -> np.ndarray:
        return np.linalg.norm(rows.values, axis=2)


@pytest.mark.parametrize(("name", "family"), CASES)
def test_recordings_have_what_units_hand_on_at_the_query(name: str, family: str) -> None:
    found = subject_of(name, family).record(BATCH, {"norm": AsTheyAre()}).readings["norm"]
    values = handed_on(name, PLACES[name][family], BATCH)
    expected = [torch.cat([layers[layer][-1].norm(dim=1) for layer in range(LAYERS)]) for layers in values]
    np.testing.assert_allclose(found, torch.stack(expected).numpy(), rtol=1e-4, atol=1e-5)


# -- cost --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("positions_per_pass", [150, 4096], ids=["many passes", "one pass"])
@pytest.mark.parametrize("families", [("mlp_layers",), ("kv_groups", "mlp_neurons"), ("stream",)], ids=str)
@pytest.mark.parametrize("name", ["gpt2", "llama_gqa", "gpt_neox"])
def test_flops_are_those_that_torch_counts(
    name: str, families: tuple[str, ...], positions_per_pass: int, every_logit: Any
) -> None:
    """The engine also multiplies changes of neurons and heads by their columns, which counts for little."""
    model = model_of(name, "eager")
    subject = HookedSubject(model, sites_of_families(model, families), vocabulary_of(model), name)
    subject.budget = replace(subject.budget, positions=positions_per_pass)
    batch, rng = tokens(1, [10] * 7), np.random.default_rng(0)
    n = len(subject.units)
    conditions = [(), (n - 1,), *[tuple(sorted(rng.permutation(n)[:2].tolist())) for _ in range(9)]]
    with FlopCounterMode(display=False) as counter:
        subject.evaluate(batch, conditions, build("zero"), every_logit[:1])
    expected = of_closure(subject, batch, conditions, build("zero"), None)
    assert counter.get_total_flops() == pytest.approx(expected, rel=0.05)
    with FlopCounterMode(display=False) as counter:
        subject.record(batch, {"norm": AsTheyAre()})
    assert counter.get_total_flops() == pytest.approx(of_recording(subject, batch, {"norm": AsTheyAre()}), rel=0.05)
