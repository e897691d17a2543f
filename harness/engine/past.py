"""Ablation at the query alone: a condition is a pass of one token over the baseline's keys and values.

Earlier positions cannot see the query, so an ablation at the query changes none of them. Their keys and values are
those of one baseline pass, which all conditions share:

    baseline pass     t0  t1  t2 .. query      once per example: keeps keys and values of every layer each condition
    query      one token, which attends to these, and to itself
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from harness.engine.attention import Heads


@dataclass(frozen=True)
class Past:
    """Keys and values of one attention module on baseline examples. ``mask`` hides the positions that each query does
    not see, and the query itself.
    """

    key: Float[Tensor, "examples kv_heads keys head_dim"]
    value: Float[Tensor, "examples kv_heads keys value_dim"]
    mask: Float[Tensor, "examples _ keys"]

    @classmethod
    def of(cls, heads: Heads, query: Int[Tensor, " examples"]) -> Past:
        """The past of the query, from this call of attention in a baseline pass."""
        mask = heads.mask_at(query).clone()
        mask.scatter_(2, query[:, None, None].expand(*mask.shape[:2], 1), torch.finfo(mask.dtype).min)
        return cls(heads.key, heads.value, mask)

    def outputs(self, heads: Heads) -> Float[Tensor, "rows 1 heads value_dim"]:
        """Head outputs of rows of one token each: it attends to the past of its example, and to itself."""
        n, rows = len(self.key), len(heads.query)
        key, value = heads.per_head(self.key), heads.per_head(self.value)
        by_condition = (rows // n, n, heads.query.shape[1])
        query = heads.query.reshape(*by_condition, -1)
        to_past = torch.einsum("cehd,ehkd->cehk", query, key)
        to_itself = (heads.query * heads.per_head(heads.key)).sum(-1).reshape(*by_condition, 1)
        scores = heads.capped(torch.cat([to_past, to_itself], dim=-1) * heads.scaling).float()
        scores[..., :-1] += self.mask
        weights = scores.softmax(-1).to(value.dtype)
        from_past = torch.einsum("cehk,ehkd->cehd", weights[..., :-1], value).flatten(0, 1)
        from_itself = weights[..., -1:].flatten(0, 1) * heads.per_head(heads.value).squeeze(2)
        return (from_past + from_itself).unsqueeze(1)
