"""The straight path from the input of every example to that of its counterfactual, for integrated gradients."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from harness.util.errors import HarnessError


def midpoints(steps: int) -> list[float]:
    """Shares of the path in the middle of ``steps`` equal parts: the midpoint rule."""
    return [(step + 0.5) / steps for step in range(steps)]


@contextmanager
def between(
    model: nn.Module,
    label: str,
    tokens: Int[Tensor, "rows positions"],
    others: Int[Tensor, "rows positions"],
    share: float,
) -> Iterator[None]:
    """While the block runs, token embeddings are moved by this share of the way to those of ``others``.

    Errors: a module that is no Hugging Face model, whose embeddings are not known.
    """
    if not isinstance(model, PreTrainedModel):
        raise HarnessError(
            f"signal integrated_gradients: {label} is no Hugging Face model, so that its embeddings are not known.",
            "Choose signal=attribution.",
        )
    embeddings = model.get_input_embeddings()
    with torch.no_grad():
        change = share * (embeddings(others) - embeddings(tokens))
    handle = embeddings.register_forward_hook(lambda _module, _inputs, output: output + change)
    try:
        yield
    finally:
        handle.remove()
