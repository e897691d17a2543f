"""The sizes of a model without loading it: from its config.json, or from a table of published models."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.util.errors import HarnessError
from harness.util.paths import expanded

# Model types whose MLP has two matrices. The MLPs of all other types have three, one of them a gate.
UNGATED = frozenset(
    ["bloom", "falcon", "gpt2", "gpt_bigcode", "gpt_neo", "gpt_neox", "gptj", "mpt", "opt", "phi", "starcoder2"]
)
_SUFFIXES = (".gguf", ".safetensors", ".bin")


@dataclass(frozen=True)
class Shapes:
    """The sizes of a decoder that decide its cost.

    ``mlp`` is the inner width of the MLP, or of one expert; ``experts``: number of experts per layer (0: a dense MLP);
    ``active``: how many of them work on a token.
    """

    layers: int
    width: int
    heads: int
    kv_heads: int
    head_dim: int
    mlp: int
    vocabulary: int
    context: int
    gated: bool = True
    experts: int = 0
    active: int = 0
    tied: bool = False

    @property
    def before(self) -> int:
        """FLOPs per position of a block before attention: queries, keys and values."""
        return 2 * self.width * self.head_dim * (self.heads + 2 * self.kv_heads)

    @property
    def after(self) -> int:
        """FLOPs per position of a block after attention: the output projection, the router, the active MLPs."""
        mlp = (2 + self.gated) * self.width * self.mlp * max(1, self.active)
        return 2 * (self.heads * self.head_dim * self.width + self.width * self.experts + mlp)

    @property
    def unembedding(self) -> int:
        """FLOPs per position of the logits."""
        return 2 * self.width * self.vocabulary

    def attention(self, queries: int, keys: int) -> int:
        """FLOPs of one row's scores and weighted values. Masked keys count, because they are computed as well."""
        return 4 * self.heads * self.head_dim * queries * keys

    @property
    def units(self) -> int:
        """The number of attention heads."""
        return self.layers * self.heads

    @property
    def parameters(self) -> int:
        """Weights, without biases and norms (together below 1 %)."""
        attention = 2 * self.width * self.head_dim * (self.heads + self.kv_heads)
        mlp = max(1, self.experts) * (2 + self.gated) * self.width * self.mlp + self.experts * self.width
        return self.layers * (attention + mlp) + (2 - self.tied) * self.vocabulary * self.width


def shapes_of(where: str) -> Shapes | None:
    """Shapes of a model: a folder with a config.json, or a hub id that was downloaded or is in the table.

    None for an unknown model; nothing is downloaded. Errors: a config.json that cannot be read.
    """
    folder = expanded(where)
    if (folder / "config.json").is_file():
        return _read(folder / "config.json")
    if not where or folder.exists() or where.endswith(_SUFFIXES):
        return None
    return _downloaded(where) or PUBLISHED.get(where.rsplit("/", 1)[-1])


def of_config(config: Mapping[str, Any]) -> Shapes | None:
    """Shapes from the content of a config.json, whose keys differ between models; None where one is missing."""
    config = config.get("text_config", config)

    def first(*names: str, default: Any = None) -> Any:
        return next((config[name] for name in names if config.get(name) is not None), default)

    width, heads = first("hidden_size", "n_embd"), first("num_attention_heads", "n_head")
    layers, vocabulary = first("num_hidden_layers", "n_layer"), first("vocab_size")
    if not (width and heads and layers and vocabulary):
        return None
    ungated = config.get("model_type") in UNGATED
    mlp = first("moe_intermediate_size", "intermediate_size", "n_inner", default=4 * width)
    return Shapes(
        layers=layers,
        width=width,
        heads=heads,
        kv_heads=1 if config.get("multi_query") else first("num_key_value_heads", default=heads),
        head_dim=first("head_dim", default=width // heads),
        mlp=mlp,
        vocabulary=vocabulary,
        context=first("max_position_embeddings", "n_positions", default=2**31),
        gated=not ungated,
        experts=first("num_experts", "num_local_experts", default=0),
        active=first("num_experts_per_tok", default=0),
        tied=bool(first("tie_word_embeddings", default=config.get("model_type") == "gpt2")),
    )


def _read(file: Path) -> Shapes | None:
    try:
        return of_config(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise HarnessError(
            f"{file} cannot be read: {error}.", "It should be the model's configuration, as JSON."
        ) from (error)


def _downloaded(name: str) -> Shapes | None:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        file = try_to_load_from_cache(name, "config.json")
    except HFValidationError:
        return None
    return _read(Path(file)) if isinstance(file, str) else None


def _pythia(layers: int, width: int, heads: int, vocabulary: int = 50304) -> Shapes:
    return Shapes(layers, width, heads, heads, width // heads, 4 * width, vocabulary, 2048, gated=False)


PUBLISHED: Mapping[str, Shapes] = {
    "gpt2": Shapes(12, 768, 12, 12, 64, 3072, 50257, 1024, gated=False, tied=True),
    "pythia-160m": _pythia(12, 768, 12),
    "pythia-410m": _pythia(24, 1024, 16),
    "pythia-1b": _pythia(16, 2048, 8),
    "SmolLM2-135M": Shapes(30, 576, 9, 3, 64, 1536, 49152, 8192, tied=True),
    "SmolLM2-135M-Instruct": Shapes(30, 576, 9, 3, 64, 1536, 49152, 8192, tied=True),
    "SimpleStories-1.25M": Shapes(4, 128, 4, 2, 32, 341, 4096, 512, tied=True),
    "Qwen3-0.6B": Shapes(28, 1024, 16, 8, 128, 3072, 151936, 40960, tied=True),
    "Llama-3.2-1B": Shapes(16, 2048, 32, 8, 64, 8192, 128256, 131072, tied=True),
    "OLMo-1B-0724-hf": Shapes(16, 2048, 16, 16, 128, 8192, 50304, 4096),
    "OLMoE-1B-7B-0924": Shapes(16, 2048, 16, 16, 128, 1024, 50304, 4096, experts=64, active=8),
    "Mixtral-8x7B-v0.1": Shapes(32, 4096, 32, 8, 128, 14336, 32000, 32768, experts=8, active=2),
    # Shared experts count as four, and two, more that always work. DeepSeek's keys and values are compressed; its first
    # MLP is dense.
    "Qwen1.5-MoE-A2.7B": Shapes(24, 2048, 16, 16, 128, 1408, 151936, 8192, experts=64, active=8),
    "DeepSeek-V2-Lite": Shapes(27, 2048, 16, 16, 128, 1408, 102400, 163840, experts=66, active=8),
    "FlexOlmo-7x7B-1T": Shapes(32, 4096, 32, 32, 128, 11008, 100352, 4096, experts=7, active=5),
    "Llama-2-7b-hf": Shapes(32, 4096, 32, 32, 128, 11008, 32000, 4096),
    "Llama-3.1-70B": Shapes(80, 8192, 64, 8, 128, 28672, 128256, 131072),
}
"""By the last part of the hub id; from each model's config.json on the hub."""
