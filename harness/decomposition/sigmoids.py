"""Hard sigmoids with a leak: what an importance is made of, so that one outside [0, 1] still learns."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

LEAK = 0.01


class _LowerLeaky(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.clamp(0, 1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (x,), (gradient,) = ctx.saved_tensors, gradients
        below = LEAK * gradient.clamp(max=0)  # only what would raise x
        return torch.where(x > 1, 0.0, torch.where(x > 0, gradient, below))


def lower_leaky(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """min(max(x, 0), 1), of which masks are made. Where x <= 0, its gradient leaks (factor .01) if it would raise x.

    Source: Bushnaq et al. 2025, with the one-sided leak of the authors' later code.
    """
    result: Tensor = _LowerLeaky.apply(x)  # type: ignore[no-untyped-call]
    return result


def upper_leaky(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """0 below 0, x up to 1, 1 + .01 (x - 1) above: what the penalty acts on. Source: Bushnaq et al. 2025."""
    return torch.where(x > 1, 1 + LEAK * (x - 1), x.clamp(min=0))
