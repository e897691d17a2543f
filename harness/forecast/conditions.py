"""The conditions of a closure test before anything is proposed: a random group stands for the candidate."""

from __future__ import annotations

from functools import lru_cache

from harness.cells.cell import Cell
from harness.closure.trial import LARGEST_DECOMPOSED
from harness.data.sampling import Group
from harness.data.units import UnitSpace
from harness.engine.shapes import Shapes
from harness.util.seeds import rng_for

SIZE = 8  # heads of a candidate, where the selector allows it: the middle of the default 4 to 12


def conditions_of(cell: Cell, shapes: Shapes, controls: int) -> list[Group]:
    """What is evaluated with this many controls per candidate: a group named by hand as it is, others drawn at random.

    Controls have as many heads in each layer as their candidate; only who is held against all is taken apart.
    """
    selector = cell.stages["selector"]
    least, most = selector.min_size or 1, selector.max_size or shapes.units
    size = min(max(SIZE, least), most, shapes.units)
    by_hand = UnitSpace.heads([shapes.heads] * shapes.layers).find(cell.settings.group)
    n = 1 if by_hand else selector.count or max(1, shapes.units // size)
    asked_for = cell.stages["controls"].n or 99
    everything = tuple(range(shapes.units))
    wanted: dict[Group, None] = {(): None}
    for candidate, *others in _drawn(shapes.layers, shapes.heads, by_hand, size, n, max(controls, asked_for)):
        touched = {unit // shapes.heads for unit in candidate}
        wanted[tuple(unit for unit in everything if unit // shapes.heads in touched)] = None
        wanted |= dict.fromkeys([candidate, *others[:controls]])
        if controls < asked_for:
            continue
        wanted |= dict.fromkeys([everything, tuple(unit for unit in everything if unit not in candidate)])
        if 1 < len(candidate) <= LARGEST_DECOMPOSED:
            wanted |= dict.fromkeys((unit,) for unit in candidate)
            wanted |= dict.fromkeys(tuple(u for u in candidate if u != unit) for unit in candidate)
    return list(wanted)


@lru_cache
def _drawn(layers: int, heads: int, by_hand: Group, size: int, n: int, controls: int) -> list[list[Group]]:
    """Candidates, each with its controls after it."""
    rng = rng_for(0, "groups of a plan")
    found = []
    for _ in range(n):
        candidate = by_hand or tuple(sorted(rng.permutation(layers * heads)[:size].tolist()))
        groups = [candidate]
        for _ in range(controls):
            rows = rng.permuted([range(heads)] * layers, axis=1)
            places = [unit // heads for unit in candidate]
            taken = [places[:i].count(layer) for i, layer in enumerate(places)]
            groups.append(
                tuple(sorted(layer * heads + int(rows[layer][i]) for layer, i in zip(places, taken, strict=True)))
            )
        found.append(groups)
    return found
