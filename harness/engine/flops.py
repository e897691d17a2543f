"""FLOPs of recordings and closure tests from a model's shapes, as the engine lays them out in passes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from harness.data.sampling import Group
from harness.engine.budget import Load, Room
from harness.engine.schedule import blocks_of, load_of
from harness.engine.shapes import Shapes


@dataclass(frozen=True)
class Work:
    """What the engine has to do: ``products`` of matrices and ``attention``, in FLOPs; ``passes`` through the model,
    and how many ``positions`` x blocks are worked on in them.
    """

    products: int = 0
    attention: int = 0
    positions: int = 0
    passes: int = 0

    @property
    def flops(self) -> int:
        """All of them."""
        return self.products + self.attention

    def __add__(self, other: Work) -> Work:
        return Work(*(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))

    def __mul__(self, times: int) -> Work:
        return Work(*(times * a for a in vars(self).values()))


def forward_pass(shapes: Shapes, examples: int, length: int, room: Room) -> Work:
    """A pass over whole examples up to their query, without logits: a recording, means, donors."""
    return _block(shapes, length) * (shapes.layers * examples) + Work(passes=math.ceil(examples / room.rows(length)))


def with_gradient(shapes: Shapes, examples: int, length: int, room: Room) -> Work:
    """Forward, and backward to the heads' outputs: products once more, attention's two products twice more."""
    forward = forward_pass(shapes, examples, length, room)
    passes = math.ceil(examples / max(1, room.rows(length) // shapes.layers))
    logits = Work(2 * shapes.unembedding * examples)
    return Work(2 * forward.products, 3 * forward.attention, 2 * forward.positions, 2 * passes) + logits


def closure(
    shapes: Shapes,
    examples: int,
    length: int,
    conditions: Sequence[Group],
    room: Room,
    of_one_token: bool = False,
) -> Work:
    """Conditions on examples of this length (mean position of the query, itself counted), and the baseline model.

    Units are heads in the order of layers. What is shared is that of :mod:`harness.engine.branching`. ``of_one_token``:
    units are ablated at the query alone, and a condition is a pass of one token.
    """
    touched = sorted(set(conditions) - {()}, key=sorted)
    layer_of = np.repeat(np.arange(shapes.layers), shapes.heads)
    if of_one_token:
        load = Load.throughout(1 + len(touched))
        together = min(examples, room.examples(length, Load.throughout(shapes.layers)))
    else:
        load = load_of(blocks_of(touched, layer_of))
        together = min(examples, room.examples(length, load))
    each = room.conditions(len(touched), together, 1 if of_one_token else length, load)
    batches = math.ceil(examples / together)
    done = Work()
    for start in range(0, max(1, len(touched)), each):
        blocks = blocks_of(touched[start : start + each], layer_of)
        done += _rows(shapes, length, blocks, of_one_token) * examples + Work(passes=batches)
    if of_one_token:
        past = _block(shapes, length) * (shapes.layers - 1) + Work(shapes.before * length, positions=length)
        done += past * examples + Work(passes=batches)
    return done


def _block(shapes: Shapes, length: int) -> Work:
    return Work((shapes.before + shapes.after) * length, shapes.attention(length, length), length)


def _rows(shapes: Shapes, length: int, blocks: Sequence[int], of_one_token: bool) -> Work:
    """One example through all layers: ``blocks[layer]`` enter a layer, and as many as enter the next one leave it."""
    done = Work(shapes.unembedding * blocks[-1])
    at_query = Work(shapes.before + shapes.after, positions=1)
    if of_one_token:
        one = at_query + Work(attention=shapes.attention(1, length))
        return done + one * sum(blocks[1:])
    for entering, leaving in pairwise(blocks[:-1]):
        done += Work(shapes.before * length, shapes.attention(length, length)) * entering
        done += Work(shapes.after * length, positions=length) * leaving
    # Of the last layer, queries, keys and values once more at the query: its heads are known by then, and handed in.
    return done + Work(shapes.before * length, shapes.attention(1, length), length) * blocks[-2] + at_query * blocks[-1]
