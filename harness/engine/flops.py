"""FLOPs of recordings and closure tests, from a model's shapes and the passes that the engine makes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Int

from harness.data.sampling import Group
from harness.engine.budget import Budget, Load
from harness.engine.schedule import Schedule, load_of
from harness.engine.shapes import Shapes


@dataclass(frozen=True)
class Work:
    """The work of the engine: ``products`` of matrices and ``attention``, in FLOPs, and the number of ``passes``.

    ``positions``: positions x residual blocks that these passes work on.
    """

    products: int = 0
    attention: int = 0
    positions: int = 0
    passes: int = 0

    @property
    def flops(self) -> int:
        """FLOPs in total."""
        return self.products + self.attention

    def __add__(self, other: Work) -> Work:
        return Work(
            self.products + other.products,
            self.attention + other.attention,
            self.positions + other.positions,
            self.passes + other.passes,
        )

    def __mul__(self, times: int) -> Work:
        return Work(times * self.products, times * self.attention, times * self.positions, times * self.passes)


def forward_pass(shapes: Shapes, examples: int, length: int, budget: Budget) -> Work:
    """Passes over examples up to their query, without logits: for a recording, for means, for donors."""
    return _block(shapes, length) * (shapes.layers * examples) + Work(passes=math.ceil(examples / budget.rows(length)))


def with_gradient(shapes: Shapes, examples: int, length: int, budget: Budget) -> Work:
    """Passes forward, and backward to the heads' outputs: twice the products, three times the attention."""
    forward = forward_pass(shapes, examples, length, budget)
    passes = math.ceil(examples / max(1, budget.rows(length) // shapes.layers))
    logits = Work(2 * shapes.unembedding * examples)
    return Work(2 * forward.products, 3 * forward.attention, 2 * forward.positions, 2 * passes) + logits


def closure(
    shapes: Shapes,
    examples: int,
    length: int,
    conditions: Sequence[Group],
    budget: Budget,
    query_only: bool = False,
) -> Work:
    """Conditions, and the baseline model, on examples of ``length`` tokens (up to the query, on average).

    Units are heads in the order of layers. Conditions share the work that :mod:`harness.engine.branching` describes.
    ``query_only``: units are ablated at the query alone, and a condition is a pass of one token.
    """
    ablating = sorted(set(conditions) - {()}, key=sorted)
    layer_of = np.repeat(np.arange(shapes.layers), shapes.heads)
    if query_only:
        load = Load.throughout(1 + len(ablating))
        per_pass = min(examples, budget.examples(length, Load.throughout(shapes.layers)))
    else:
        load = load_of(Schedule.of([(), *ablating], layer_of).blocks)
        per_pass = min(examples, budget.examples(length, load))
    each = budget.conditions(len(ablating), per_pass, 1 if query_only else length, load)
    batches = math.ceil(examples / per_pass)
    work = Work()
    for start in range(0, max(1, len(ablating)), each):
        blocks = Schedule.of([(), *ablating[start : start + each]], layer_of).blocks
        work += _rows(shapes, length, blocks, query_only) * examples + Work(passes=batches)
    if query_only:
        past = _block(shapes, length) * (shapes.layers - 1) + Work(shapes.before * length, positions=length)
        work += past * examples + Work(passes=batches)
    return work


def hooked_closure(
    shapes: Shapes,
    examples: int,
    length: int,
    conditions: Sequence[Group],
    budget: Budget,
    layer_of: Int[np.ndarray, " units"],
) -> Work:
    """The same for units that are ablated by hooks (:mod:`harness.engine.chain`): conditions share whole blocks only.

    ``layer_of``: the block of every unit.
    """
    ablating = sorted(set(conditions) - {()}, key=sorted)
    load = load_of(Schedule.of([(), *ablating], layer_of).blocks)
    per_pass = min(examples, budget.examples(length, load))
    each = budget.conditions(len(ablating), per_pass, length, load)
    work = Work()
    for start in range(0, max(1, len(ablating)), each):
        blocks = Schedule.of([(), *ablating[start : start + each]], layer_of).blocks
        # Blocks between two with units have the rows of the first of them.
        place = np.searchsorted(np.unique(layer_of), np.arange(shapes.layers), side="right")
        rows = sum(blocks[at] for at in place)
        logits = Work(shapes.unembedding * blocks[-1])
        work += (_block(shapes, length) * rows + logits) * examples + Work(passes=math.ceil(examples / per_pass))
    return work


def _block(shapes: Shapes, length: int) -> Work:
    return Work((shapes.before + shapes.after) * length, shapes.attention(length, length), length)


def _rows(shapes: Shapes, length: int, blocks: Sequence[int], query_only: bool) -> Work:
    """One example through all layers; ``blocks`` are those of :class:`harness.engine.schedule.Schedule`."""
    work = Work(shapes.unembedding * blocks[-1])
    at_query = Work(shapes.before + shapes.after, positions=1)
    if query_only:
        one = at_query + Work(attention=shapes.attention(1, length))
        return work + one * sum(blocks[1:])
    for entering, leaving in pairwise(blocks[:-1]):
        work += Work(shapes.before * length, shapes.attention(length, length)) * entering
        work += Work(shapes.after * length, positions=length) * leaving
    # The last block runs twice. The second time, at the query, computes queries, keys and values again.
    return work + Work(shapes.before * length, shapes.attention(1, length), length) * blocks[-2] + at_query * blocks[-1]
