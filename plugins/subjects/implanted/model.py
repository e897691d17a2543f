"""The decoder while it is trained: weights named as in transformers' Llama, and heads that can be replaced per row."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from .circuits import HEADS, KEYS, LAYERS, TASKS, VALUES
from .task import LENGTH, NOISES, PAIRS, QUERIES, VOCABULARY

WIDTH, HEAD_WIDTH, HIDDEN, BASE, EPSILON = 72, 8, 72, 10_000.0, 1e-6

Replace = Callable[[int, Float[Tensor, "rows places heads width"]], Float[Tensor, "rows places heads width"]]
"""From a layer and what its heads hand on to what they hand on instead."""


def config() -> dict[str, Any]:
    """The configuration for transformers."""
    return {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": VOCABULARY, "hidden_size": WIDTH,
        "intermediate_size": HIDDEN, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS, "head_dim": HEAD_WIDTH, "max_position_embeddings": LENGTH,
        "rope_parameters": {"rope_type": "default", "rope_theta": BASE}, "rms_norm_eps": EPSILON,
        "tie_word_embeddings": False, "bos_token_id": 0, "eos_token_id": None, "pad_token_id": None,
    }  # fmt: skip


class Seen(NamedTuple):
    """One pass, at the query: logits, and for every layer attention and the norm of what each head writes."""

    logits: Float[Tensor, "rows vocabulary"]
    attention: Float[Tensor, "layers rows heads places"]
    written: Float[Tensor, "layers rows heads"]


class Decoder(nn.Module):
    """A decoder of the Llama class."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Trunk()
        self.lm_head = nn.Linear(WIDTH, VOCABULARY, bias=False)
        with torch.no_grad():
            self.model.embed_tokens.weight.copy_(embedding())

    def forward(self, tokens: Int[Tensor, "rows places"], replace: Replace | None = None) -> Seen:
        stream, attentions, norms = self.model.embed_tokens(tokens), [], []
        for depth, block in enumerate(self.model.layers):
            assert isinstance(block, Block)
            places = tokens.shape[1] if depth < LAYERS - 1 else 1  # after the last layer, the query alone is read
            handed, attention = block.self_attn.heads(block.input_layernorm(stream), places)
            handed = handed if replace is None else replace(depth, handed)
            stream = stream[:, -places:] + block.self_attn.o_proj(handed.flatten(2))
            stream = stream + block.mlp(block.post_attention_layernorm(stream))
            attentions.append(attention[:, :, -1])
            norms.append(block.self_attn.written(handed[:, -1]))
        logits = self.lm_head(self.model.norm(stream[:, -1]))
        return Seen(logits, torch.stack(attentions), torch.stack(norms))


class Trunk(nn.Module):
    """All but the unembedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(VOCABULARY, WIDTH)
        self.layers = nn.ModuleList(Block() for _ in range(LAYERS))
        self.norm = nn.RMSNorm(WIDTH, eps=EPSILON)


class Block(nn.Module):
    """Attention and MLP."""

    def __init__(self) -> None:
        super().__init__()
        self.input_layernorm, self.post_attention_layernorm = (nn.RMSNorm(WIDTH, eps=EPSILON) for _ in range(2))
        self.self_attn, self.mlp = Attention(), Gated()


class Gated(nn.Module):
    """The gated MLP."""

    def __init__(self) -> None:
        super().__init__()
        self.gate_proj, self.up_proj = (nn.Linear(WIDTH, HIDDEN, bias=False) for _ in range(2))
        self.down_proj = nn.Linear(HIDDEN, WIDTH, bias=False)

    def forward(self, stream: Float[Tensor, "... width"]) -> Float[Tensor, "... width"]:
        written: Tensor = self.down_proj(nn.functional.silu(self.gate_proj(stream)) * self.up_proj(stream))
        return written


class Attention(nn.Module):
    """Attention, with what each head hands on before the projection."""

    cos: Float[Tensor, "places width"]
    sin: Float[Tensor, "places width"]
    later: Bool[Tensor, "queries keys"]

    def __init__(self) -> None:
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(WIDTH, HEADS * HEAD_WIDTH, bias=False) for _ in range(3))
        self.o_proj = nn.Linear(HEADS * HEAD_WIDTH, WIDTH, bias=False)
        with torch.no_grad():  # heads start by attending to what is like the query, and by copying it
            for part in (self.q_proj, self.v_proj):
                for head in range(HEADS):
                    nn.init.orthogonal_(part.weight[head * HEAD_WIDTH : (head + 1) * HEAD_WIDTH])
            self.k_proj.weight.copy_(self.q_proj.weight)
            self.o_proj.weight.copy_(self.v_proj.weight.T / 2)
        angle = torch.arange(LENGTH)[:, None] / BASE ** (torch.arange(0, HEAD_WIDTH, 2) / HEAD_WIDTH)
        self.register_buffer("cos", angle.cos().repeat(1, 2), persistent=False)
        self.register_buffer("sin", angle.sin().repeat(1, 2), persistent=False)
        self.register_buffer("later", torch.ones(LENGTH, LENGTH, dtype=torch.bool).triu(1), persistent=False)

    def heads(
        self, stream: Float[Tensor, "rows keys width"], places: int
    ) -> tuple[Float[Tensor, "rows places heads head_width"], Float[Tensor, "rows heads places keys"]]:
        """What the heads hand on at the last ``places``, and their attention."""
        keys = stream.shape[1]
        query, key, value = (
            part(stream).unflatten(-1, (HEADS, HEAD_WIDTH)).transpose(1, 2)
            for part in (self.q_proj, self.k_proj, self.v_proj)
        )
        query, key = self._rotated(query)[:, :, -places:], self._rotated(key)
        scores = (query @ key.transpose(-1, -2) / math.sqrt(HEAD_WIDTH)).masked_fill(
            self.later[keys - places : keys, :keys], -torch.inf
        )
        attention = scores.softmax(-1)
        return (attention @ value).transpose(1, 2), attention

    def written(self, handed: Float[Tensor, "rows heads head_width"]) -> Float[Tensor, "rows heads"]:
        """The norm of what each head writes."""
        out = self.o_proj.weight.reshape(WIDTH, HEADS, HEAD_WIDTH)
        norm: Tensor = torch.linalg.vector_norm(torch.einsum("rhw,dhw->rhd", handed, out), dim=-1)
        return norm

    def _rotated(self, values: Float[Tensor, "rows heads places width"]) -> Float[Tensor, "rows heads places width"]:
        first, second = values.chunk(2, -1)
        places = values.shape[2]
        return values * self.cos[:places] + torch.cat([-second, first], -1) * self.sin[:places]


def embedding() -> Float[Tensor, "vocabulary width"]:
    """How embeddings start: a pair is the sum of its key and of the bits of its value, a query of its key and task."""
    directions = nn.init.orthogonal_(torch.empty(WIDTH, WIDTH))
    keys, bits, tasks = directions[:KEYS], directions[KEYS : KEYS + 4], directions[KEYS + 4 : KEYS + 4 + len(TASKS)]
    of = (torch.arange(VALUES)[:, None] >> torch.arange(4) & 1) * 2.0 - 1
    table = 0.2 * torch.randn(VOCABULARY, WIDTH) / math.sqrt(WIDTH)
    table[PAIRS:QUERIES] += (keys[:, None] + of @ bits / 2).flatten(0, 1)
    table[QUERIES:NOISES] += (tasks[:, None] + keys).flatten(0, 1)
    return table
