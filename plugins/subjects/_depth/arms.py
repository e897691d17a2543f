"""The arms of the depth-routing experiment, each a small model that comes with the harness, in several seeds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from harness import digest
from harness.util.errors import unknown

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from harness.engine.depth_routing import Form

WEIGHTS = Path(__file__).parent / "weights"
BLOCK = {"reset": 2, "cumulative": 4}
"""Sublayers of a block: with ``reset`` a layer, with ``cumulative`` two."""
FILES: Mapping[str, tuple[str, ...]] = {
    "trained": ("trained",),
    "uniform": ("plain",),
    "fixed": ("trained",),
    "wrapped": ("plain",),
    "tuned_routing": ("plain", "tuned_routing"),
    "tuned_all": ("tuned_all",),
}
"""The files of every arm; weights of later ones replace those of earlier ones."""
TUNING_BIAS = 3.0
"""The bias with which routers start where a plain model is wrapped and tuned: with 10 they hardly get gradients."""


def form_of(arm: str) -> Form:
    """Plain models are wrapped with ``cumulative``; in models with routing from the start, blocks reset."""
    return "cumulative" if arm in ("wrapped", "tuned_routing", "tuned_all") else "reset"


def new_model(seed: int) -> PreTrainedModel:
    """A plain Llama of 4 layers and about 0.11 million weights. Arms with the same seed start from the same weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from harness import seed_for

    torch.manual_seed(seed_for(seed, "depth routing: initialisation"))
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=32, hidden_size=48, intermediate_size=128, num_hidden_layers=4, num_attention_heads=4,
            num_key_value_heads=4, head_dim=12, max_position_embeddings=64, tie_word_embeddings=True,
            initializer_range=0.1, bos_token_id=None, eos_token_id=None, pad_token_id=None,
        )
    )  # fmt: skip


def state_of(arm: str, seed: int, weights: Path = WEIGHTS) -> dict[str, Tensor]:
    """The weights of an arm. Errors: a seed that does not exist."""
    from safetensors.torch import load_file

    seeds = [file.stem.rsplit("-", 1)[1] for file in sorted(weights.glob("trained-*.safetensors"))]
    if str(seed) not in seeds:
        raise unknown("tiny_depth seed", str(seed), seeds)
    state: dict[str, Tensor] = {}
    for name in FILES[arm]:
        state |= {key: value.float() for key, value in load_file(weights / f"{name}-{seed}.safetensors").items()}
    return state


def digest_of(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over the names and values of weights."""
    return digest(*(part for name in sorted(state) for part in (name, state[name].numpy())))


def model_of(arm: str, seed: int, bias: float, weights: Path = WEIGHTS) -> PreTrainedModel:
    """The model of an arm. ``bias``: of the newest source, in ``wrapped`` and ``fixed``."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from harness.engine.depth_routing import routed, with_bias
    from harness.engine.quiet import quiet

    state, form = state_of(arm, seed, weights), form_of(arm)
    with quiet():
        model = routed(LlamaForCausalLM(LlamaConfig.from_pretrained(weights)), form, BLOCK[form])
        model.load_state_dict({**model.state_dict(), **state, "lm_head.weight": state["model.embed_tokens.weight"]})
    return with_bias(model, bias) if arm in ("wrapped", "fixed") else model
