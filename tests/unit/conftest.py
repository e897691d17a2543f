"""Tiny models of many architectures, and an ablation that is independent of the engine."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers import models as hf

from harness.data.batch import Batch
from harness.data.contracts import Intervention, Metric
from harness.data.tokens import Tokens

VOCABULARY = 48
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,  # large, or attention is flat and an error in it too small to see
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GROUPED = {**SIZES, "num_key_value_heads": 2, "head_dim": 8}


@dataclass(frozen=True)
class Architecture:
    """A configuration of a few thousand parameters, and the path of its output projections."""

    config: Callable[[], Any]
    projection: str

    def build(self, attention: str | None = None) -> PreTrainedModel:
        """The model with fixed random weights; transformers chooses the attention implementation."""
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(self.config(), attn_implementation=attention).eval()

    @property
    def eager(self) -> PreTrainedModel:
        """The model with eager attention; never passed to the engine."""
        return _eager(self)


@cache
def _eager(architecture: Architecture) -> PreTrainedModel:
    return architecture.build("eager")


LLAMA_LIKE = "model.layers.{}.self_attn.o_proj"
ARCHITECTURES = {
    "gpt2": Architecture(
        lambda: hf.GPT2Config(
            vocab_size=VOCABULARY, n_embd=32, n_layer=4, n_head=4, n_positions=64, initializer_range=0.3
        ),
        "transformer.h.{}.attn.c_proj",
    ),
    "llama_gqa": Architecture(lambda: hf.LlamaConfig(**GROUPED), LLAMA_LIKE),
    "gpt_neox": Architecture(lambda: hf.GPTNeoXConfig(**SIZES), "gpt_neox.layers.{}.attention.dense"),
    "olmo": Architecture(lambda: hf.OlmoConfig(**SIZES, clip_qkv=2.0), LLAMA_LIKE),
    "olmoe": Architecture(lambda: hf.OlmoeConfig(**SIZES, num_experts=6, num_experts_per_tok=2), LLAMA_LIKE),
    "qwen3": Architecture(lambda: hf.Qwen3Config(**GROUPED), LLAMA_LIKE),
    "mistral_sliding": Architecture(lambda: hf.MistralConfig(**GROUPED, sliding_window=4), LLAMA_LIKE),
    "gemma2_softcap": Architecture(
        lambda: hf.Gemma2Config(**GROUPED, sliding_window=4, attn_logit_softcapping=2.0, final_logit_softcapping=5.0),
        LLAMA_LIKE,
    ),
    # It shapes its output by its input, so that rows cannot branch off on the way.
    "gpt_bigcode": Architecture(
        lambda: hf.GPTBigCodeConfig(
            vocab_size=VOCABULARY, n_embd=32, n_layer=4, n_head=4, n_positions=64, initializer_range=0.3
        ),
        "transformer.h.{}.attn.c_proj",
    ),
    # Its rotary angles come with one row per example, and every second layer has no heads at all.
    "qwen3_5_hybrid": Architecture(
        lambda: hf.Qwen3_5TextConfig(
            **GROUPED,
            layer_types=["linear_attention", "full_attention"] * 2,
            linear_num_key_heads=2,
            linear_num_value_heads=2,
            linear_key_head_dim=8,
            linear_value_head_dim=8,
        ),
        LLAMA_LIKE,
    ),
}


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Models this small gain nothing from threads; beside other work, threads wait for each other (15 times slower)."""
    torch.set_num_threads(1)


@pytest.fixture(params=ARCHITECTURES)
def architecture(request: pytest.FixtureRequest) -> Architecture:
    """Each architecture in turn."""
    return ARCHITECTURES[request.param]


@pytest.fixture(scope="session")
def architectures() -> dict[str, Architecture]:
    """All architectures, by name."""
    return ARCHITECTURES


@pytest.fixture
def ragged_batch() -> Batch:
    """Six examples with different query positions; most have tokens after the query."""
    rng = np.random.default_rng(1)
    query = np.array([15, 9, 12, 4, 15, 7])
    tokens = rng.integers(3, VOCABULARY, (6, 16))
    anchors = {"first-token": np.zeros((6, 1), dtype=np.int64)}
    return Tokens("ragged", tokens, query, rng.integers(3, VOCABULARY, 6), anchors, "successor")


@pytest.fixture
def saved(tmp_path, architectures) -> Path:
    """A folder as save_pretrained leaves it, with a tokenizer of five words that adds a token of its own in front."""
    folder = tmp_path / "llama-mini"
    architectures["llama_gqa"].build().save_pretrained(folder)
    words = {"<s>": 0, "the": 1, "cat": 2, "sat": 3, "on": 4, "mat": 5}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<s>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 4, "bos_token": "<s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


@dataclass(frozen=True)
class Silence(Intervention):
    """An ablated head writes zeros."""

    name: ClassVar[str] = "silence"

    def __call__(self, output: torch.Tensor) -> torch.Tensor:
        return output.new_zeros(())


@dataclass(frozen=True)
class LogitOf(Metric):
    """The logit of one token of the vocabulary; all of them together are the whole prediction."""

    token: int = 0
    name: ClassVar[str] = "logit_of"
    damage: ClassVar[Literal[1, -1]] = -1

    def __call__(self, prediction: Any) -> torch.Tensor:
        return prediction.logits[:, self.token]


@pytest.fixture(scope="session")
def silence() -> Silence:
    """Zero ablation, independent of any plugin."""
    return Silence()


@pytest.fixture(scope="session")
def every_logit() -> list[LogitOf]:
    """One metric per token of the vocabulary."""
    return [LogitOf(token) for token in range(VOCABULARY)]


@pytest.fixture(scope="session")
def ablated_one_by_one() -> Callable[..., np.ndarray]:
    """The reference: a hook on each output projection zeroes the heads' slice of its input; one condition, one example,
    one eager forward pass each, of the tokens up to the query. -> logits [vocabulary, conditions, examples]."""

    def run(architecture: Architecture, batch: Batch, conditions: Sequence[Sequence[tuple[int, int]]]) -> np.ndarray:
        examples = range(len(batch))
        return np.stack(
            [np.stack([_logits(architecture, batch, e, heads) for e in examples], axis=-1) for heads in conditions],
            axis=1,
        )

    return run


def _logits(architecture: Architecture, batch: Batch, example: int, heads: Sequence[tuple[int, int]]) -> np.ndarray:
    model, handles = architecture.eager, []
    for layer in {layer for layer, _ in heads}:

        def hook(_: Any, args: Any, ablated: Any = tuple(h for at, h in heads if at == layer)) -> Any:
            written = args[0].clone().reshape(*args[0].shape[:-1], 4, -1)
            written[..., list(ablated), :] = 0
            return (written.reshape(args[0].shape), *args[1:])

        projection = model.get_submodule(architecture.projection.format(layer))
        handles.append(projection.register_forward_pre_hook(hook))
    try:
        with torch.no_grad():
            tokens = torch.from_numpy(batch.tokens[example : example + 1, : batch.query[example] + 1])
            return model(tokens, use_cache=False).logits[0, -1].numpy()
    finally:
        for handle in handles:
            handle.remove()
