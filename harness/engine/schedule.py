"""Where conditions part: which blocks of rows a pass needs in each layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from harness.engine.budget import Load


@dataclass(frozen=True)
class Forks:
    """Which blocks of rows (one row per example) there are in each layer; block 0 is the baseline model.

    ``entering``: how many there are before the first layer; ``copies``, by layer: for every block that joins in it, the
    block it is a copy of up to that layer's heads; ``ablated``, by layer: the units that each block goes without there,
    None where none does; ``places``: the block of each condition at the end.
    """

    entering: int
    copies: Mapping[int, list[int]]
    ablated: Mapping[int, list[tuple[int, ...]] | None]
    places: list[int]

    @classmethod
    def of(cls, conditions: Sequence[Sequence[int]], layer_of: Int[np.ndarray, " units"], trunk: bool) -> Forks:
        """Two conditions are one block up to the first layer in which they ablate different units.

        Without a shared ``trunk`` every condition is a block of its own from the input on.
        """
        sets = [tuple(sorted(condition, key=lambda unit: (layer_of[unit], unit))) for condition in conditions]
        blocks: list[tuple[int, ...]] = [(), *(() if trunk else dict.fromkeys(filter(None, sets)))]
        entering = len(blocks)
        copies: dict[int, list[int]] = {}
        ablated: dict[int, list[tuple[int, ...]] | None] = {}
        for layer in np.unique(layer_of).tolist():
            if trunk and any(layer_of[unit] == layer for group in sets for unit in group):
                upto = dict.fromkeys(tuple(u for u in group if layer_of[u] <= layer) for group in sets)
                place = {block: i for i, block in enumerate(blocks)}
                free = {block for block in blocks if block not in upto and block}
                for wanted in (block for block in upto if block not in place):
                    before = tuple(u for u in wanted if layer_of[u] < layer)
                    if before in free:  # nobody goes on as that block did: it becomes its first child
                        free.remove(before)
                        blocks[place[before]] = wanted
                    else:
                        copies.setdefault(layer, []).append(place[before])
                        blocks.append(wanted)
            here = [tuple(u for u in block if layer_of[u] == layer) for block in blocks]
            ablated[layer] = here if any(here) else None
        place = {block: i for i, block in enumerate(blocks)}
        return cls(entering, copies, ablated, [place[group] for group in sets])


def blocks_of(
    conditions: Sequence[Sequence[int]], layer_of: Int[np.ndarray, " units"], trunk: bool = True
) -> list[int]:
    """How many blocks enter each layer, and how many leave the last: those of :class:`Forks`, only counted."""
    sets = {frozenset(group) for group in ((), *conditions)}
    ends = np.unique(layer_of).tolist()
    if not trunk:
        return [len(sets)] * (1 + len(ends))
    layers = layer_of.tolist()
    return [1, *(len({frozenset(u for u in group if layers[u] <= end) for group in sets}) for end in ends)]


def load_of(blocks: Sequence[int]) -> Load:
    """What a pass of these blocks holds per example. The last layer takes the time of those that enter it: what parts
    inside it does so at the query alone.
    """
    return Load((sum(blocks[1:-1]) + blocks[-2]) / (len(blocks) - 1), blocks[-1])
