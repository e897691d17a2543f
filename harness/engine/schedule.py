"""How many rows a pass needs in each layer: conditions share rows until they ablate different units.

A *block* is one row per example; block 0 is the baseline model. Take three conditions in a model of four layers:

    A = {L0H1, L2H0}    B = {L0H1, L3H2}    C = {L2H3}

                layer 0       layer 1       layer 2            layer 3
    block 0     baseline      baseline      baseline           baseline            = baseline
    block 1     L0H1 (copy)   L0H1          L0H1               L0H1, L3H2          = B
    block 2                                 L0H1, L2H0 (copy)  L0H1, L2H0          = A
    block 3                                 L2H3 (copy)        L2H3                = C

    blocks:   1             2             2                  4                   4

A block is copied only where two conditions begin to differ. If all conditions of a block continue in the same way
(block 1 in layer 3), no copy is needed.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from harness.data.sampling import Group
from harness.engine.budget import Load


@dataclass(frozen=True)
class Schedule:
    """The blocks of rows in each layer of one pass.

    ``blocks``: the number that enter the first layer, then the number that leave each layer; ``copies``, by layer: for
    every block that is added there, the block it is a copy of; ``ablated``, by layer: the units that each block ablates
    there, None where no block ablates any; ``places``: the block of each condition at the end.
    """

    blocks: list[int]
    copies: Mapping[int, list[int]]
    ablated: Mapping[int, list[Group] | None]
    places: list[int]

    @property
    def entering(self) -> int:
        """Blocks before the first layer."""
        return self.blocks[0]

    @classmethod
    def of(cls, conditions: Sequence[Group], layer_of: Int[np.ndarray, " units"], trunk: bool = True) -> Schedule:
        """Two conditions are one block up to the first layer in which they ablate different units.

        The first condition has to be ``()``, the baseline. Without a shared ``trunk`` every condition has a block of
        its own from the input on.
        """
        layers: list[int] = layer_of.tolist()
        layer_at = layers.__getitem__
        groups: list[Group] = [tuple(sorted(group, key=lambda unit: (layers[unit], unit))) for group in conditions]
        touched = {layers[unit] for group in groups for unit in group}
        # The units that each block ablates: up to this layer or, without a trunk, in all layers.
        blocks: list[Group] = [()] if trunk else list(dict.fromkeys([(), *groups]))
        counts = [len(blocks)]
        copies: dict[int, list[int]] = {}
        ablated: dict[int, list[Group] | None] = {}
        for layer in sorted(set(layers)):
            if trunk and layer in touched:
                wanted = dict.fromkeys(group[: bisect_right(group, layer, key=layer_at)] for group in groups)
                place = {block: i for i, block in enumerate(blocks)}
                free = {block for block in blocks if block and block not in wanted}
                for block in (block for block in wanted if block not in place):
                    parent = block[: bisect_left(block, layer, key=layer_at)]
                    if parent in free:  # no condition continues the parent as it is: its rows are used without a copy
                        free.remove(parent)
                        blocks[place[parent]] = block
                    else:
                        copies.setdefault(layer, []).append(place[parent])
                        blocks.append(block)
            counts.append(len(blocks))
            ablated[layer] = None
            if layer in touched:
                ends = [[find(block, layer, key=layer_at) for find in (bisect_left, bisect_right)] for block in blocks]
                ablated[layer] = [block[begin:end] for block, (begin, end) in zip(blocks, ends, strict=True)]
        place = {block: i for i, block in enumerate(blocks)}
        return cls(counts, copies, ablated, [place[group] for group in groups])


def load_of(blocks: Sequence[int]) -> Load:
    """The rows per example of a pass with these blocks.

    The last layer takes the time of the blocks that enter it: blocks that are copied there are computed at the query
    alone.
    """
    return Load((sum(blocks[1:-1]) + blocks[-2]) / (len(blocks) - 1), blocks[-1])
