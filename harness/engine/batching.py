"""How examples and conditions are divided into forward passes of bounded size. The bound changes no result."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from jaxtyping import Int, Shaped
from torch import Tensor, nn
from transformers import PreTrainedModel

from harness.data.batch import Batch
from harness.data.tokens import Tokens
from harness.engine.budget import Budget, Load

PADDING = 1 / 8
"""Maximum number of padding positions per position of the examples, if examples of different lengths share a pass."""


def micro_batches(batch: Batch, load: Load, budget: Budget) -> Iterator[Int[np.ndarray, " chosen"]]:
    """Examples of similar length together, as many as the budget allows (at least one)."""
    order = np.argsort(batch.query, kind="stable")
    lengths = batch.query[order] + 1
    start = 0
    while start < len(order):
        stop = start + 1
        while stop < len(order):
            count, longest, unpadded = stop + 1 - start, int(lengths[stop]), int(lengths[start : stop + 1].sum())
            if count > budget.examples(longest, load) or count * longest > (1 + PADDING) * unpadded:
                break
            stop += 1
        yield order[start:stop]
        start = stop


def condition_chunks(conditions: list[int], each: int) -> Iterator[list[int]]:
    """At most ``each`` conditions at a time; one empty chunk where there are none."""
    yield from (conditions[i : i + each] for i in range(0, max(1, len(conditions)), each))


def tensors(part: Tokens, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens cut after the longest query (zeros after each example's query), query positions, targets."""
    tokens = np.where(np.arange(part.tokens.shape[1]) <= part.query[:, None], part.tokens, 0)
    cut = tokens[:, : part.query.max() + 1]
    return tuple(torch.from_numpy(np.array(a, dtype=np.int64)).to(device) for a in (cut, part.query, part.target))  # type: ignore[return-value]


def at_query(
    values: Shaped[Tensor, "rows positions *rest"], query: Int[Tensor, " rows"]
) -> Shaped[Tensor, "rows 1 *rest"]:
    """The values at one position of each row."""
    return values[torch.arange(len(values), device=values.device), query.to(values.device)].unsqueeze(1)


@contextmanager
def unembedding_only(model: PreTrainedModel, select: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Compute logits only of the hidden states that ``select`` returns.

    Later changes of the logits by the model (scaling, a soft cap) still happen.
    """

    def selected(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (select(args[0]), *args[1:])

    handle = model.get_output_embeddings().register_forward_pre_hook(selected)
    try:
        yield
    finally:
        handle.remove()
