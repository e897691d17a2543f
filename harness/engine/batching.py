"""How examples and conditions are laid out in forward passes of bounded size; the bound changes no result."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from harness.data.batch import Batch
from harness.engine.budget import Load, Room

PADDING = 1 / 8
"""Share of an example's positions, at most, that are added for it to be as long as others in its pass."""


def micro_batches(batch: Batch, load: Load, room: Room) -> Iterator[Int[np.ndarray, " chosen"]]:
    """Examples of like length together, as many as there is room for (at least one)."""
    order = np.argsort(batch.query, kind="stable")
    lengths = batch.query[order] + 1
    start = 0
    while start < len(order):
        stop = start + 1
        while stop < len(order):
            together, longest, own = stop + 1 - start, int(lengths[stop]), int(lengths[start : stop + 1].sum())
            if together > room.examples(longest, load) or together * longest > (1 + PADDING) * own:
                break
            stop += 1
        yield order[start:stop]
        start = stop


def condition_chunks(conditions: list[int], each: int) -> Iterator[list[int]]:
    """As many conditions together; one chunk of none where there are none."""
    yield from (conditions[i : i + each] for i in range(0, max(1, len(conditions)), each))


def tensors(part: Batch, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens cut after the longest query (zeros after each example's own), query positions, targets."""
    tokens = np.where(np.arange(part.tokens.shape[1]) <= part.query[:, None], part.tokens, 0)
    cut = tokens[:, : part.query.max() + 1]
    return tuple(torch.from_numpy(np.array(a, dtype=np.int64)).to(device) for a in (cut, part.query, part.target))  # type: ignore[return-value]


def at_query(
    values: Shaped[Tensor, "rows positions *rest"], query: Int[Tensor, " rows"]
) -> Shaped[Tensor, "rows 1 *rest"]:
    """What there is at one position of each row."""
    return values[torch.arange(len(values), device=values.device), query.to(values.device)].unsqueeze(1)
