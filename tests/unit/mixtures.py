"""Tiny mixtures of experts of every architecture, and examples for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np
import torch
import transformers as hf
from transformers import AutoModelForCausalLM, PreTrainedModel

from harness import Tokens

LAYERS, EXPERTS = 4, 6
SIZES = {"vocab_size": 48, "hidden_size": 32, "num_hidden_layers": LAYERS, "num_attention_heads": 4,
         "intermediate_size": 24, "max_position_embeddings": 64, "pad_token_id": 0, "eos_token_id": None,
         "initializer_range": 0.3, "num_key_value_heads": 2}  # fmt: skip
MIXED = {**SIZES, "num_experts": EXPERTS, "num_experts_per_tok": 2}
DEEPSEEK = {**SIZES, "num_key_value_heads": 4, "n_routed_experts": EXPERTS, "num_experts_per_tok": 2,
            "moe_intermediate_size": 16, "first_k_dense_replace": 1, "q_lora_rank": 8, "kv_lora_rank": 8,
            "qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 8, "routed_scaling_factor": 2.5}  # fmt: skip
INKLING = {**{name: size for name, size in SIZES.items() if name != "intermediate_size"}, "head_dim": 8,
           "unpadded_vocab_size": 48, "swa_num_attention_heads": 4, "swa_num_key_value_heads": 2, "swa_head_dim": 8,
           "sliding_window_size": 8, "d_rel": 4, "rel_extent": 16, "moe_intermediate_size": 16,
           "n_routed_experts": EXPERTS, "num_experts_per_tok": 2}  # fmt: skip
CONFIGS: Mapping[str, Callable[[], Any]] = {
    "olmoe": lambda: hf.OlmoeConfig(**MIXED),
    "olmoe_top1": lambda: hf.OlmoeConfig(**{**MIXED, "num_experts_per_tok": 1}),
    "flex_olmo": lambda: hf.FlexOlmoConfig(**MIXED),
    "mixtral": lambda: hf.MixtralConfig(**SIZES, num_local_experts=EXPERTS, num_experts_per_tok=2),
    "qwen2_moe": lambda: hf.Qwen2MoeConfig(
        **MIXED, moe_intermediate_size=16, shared_expert_intermediate_size=16, decoder_sparse_step=2
    ),
    "qwen3_moe": lambda: hf.Qwen3MoeConfig(**MIXED, head_dim=8, moe_intermediate_size=16, norm_topk_prob=True),
    "deepseek_v2": lambda: hf.DeepseekV2Config(**DEEPSEEK, topk_method="group_limited_greedy", n_group=3, topk_group=2),
    "deepseek_v3": lambda: hf.DeepseekV3Config(**DEEPSEEK, n_group=2, topk_group=1),
    "inkling": lambda: hf.InklingTextConfig(**INKLING, intermediate_size=24, n_shared_experts=1),
    "inkling2": lambda: hf.Inkling2TextConfig(
        **INKLING, n_layers_per_attn_res_block=2, layer_types=["hybrid", "hybrid_sliding"] * 2
    ),
}
IMPLEMENTATIONS = ("eager", "batched_mm", "grouped_mm")


@cache
def model_of(name: str, experts: str = "eager") -> PreTrainedModel:
    """Random weights; correction biases that decide which experts are chosen."""
    torch.manual_seed(0)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(CONFIGS[name](), experts_implementation=experts).eval()
    assert model.config._experts_implementation == experts
    for buffer, values in model.named_buffers():
        if "correction_bias" in buffer:
            values.copy_(torch.linspace(-2, 2, EXPERTS))
    return model


def batch() -> Tokens:
    """Six examples with different query positions; most have tokens after the query."""
    rng = np.random.default_rng(1)
    query = np.array([15, 9, 12, 4, 15, 7])
    return Tokens("ragged", rng.integers(1, 48, (6, 16)), query, rng.integers(1, 48, 6), {}, "successor")
