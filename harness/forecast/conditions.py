"""The conditions of a closure test before anything is proposed: random groups take the place of the candidates."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from harness.cells.cell import Cell
from harness.closure.trial import Case, conditions
from harness.data.contracts import ControlSets
from harness.data.sampling import Group
from harness.data.units import UnitSpace
from harness.engine.shapes import Shapes
from harness.util.seeds import rng_for

SIZE = 8  # heads of a candidate, where the selector allows it: the middle of the default 4 to 12


@dataclass(frozen=True)
class Design:
    """What decides the conditions of a cell: its ``n`` candidates, and how many controls are ``drawn`` for each.

    A group ``named`` by hand is the candidate; otherwise candidates of one ``size`` are drawn at random.
    """

    layers: int
    heads: int
    named: Group
    size: int
    n: int
    drawn: int

    @classmethod
    def of(cls, cell: Cell, shapes: Shapes) -> Design:
        """The design of a cell."""
        selector = cell.stages["selector"]
        smallest, largest = selector.min_size or 1, selector.max_size or shapes.units
        size = min(max(SIZE, smallest), largest, shapes.units)
        named = UnitSpace.heads([shapes.heads] * shapes.layers).find(cell.settings.group)
        n = 1 if named else selector.count or max(1, shapes.units // size)
        return cls(shapes.layers, shapes.heads, named, size, n, cell.stages["controls"].n or 99)

    def conditions(self, controls: int) -> list[Group]:
        """The conditions of a cell that evaluates this many controls per candidate."""
        drawn = max(controls, self.drawn)
        cases = _cases(self.layers, self.heads, self.named, self.size, self.n, drawn)
        return conditions(case.up_to(controls) for case in cases)


@lru_cache
def _cases(layers: int, heads: int, named: Group, size: int, n: int, controls: int) -> tuple[Case, ...]:
    """Candidates, each with controls that have as many heads in each layer."""
    rng = rng_for(0, "groups of a plan")
    units = UnitSpace.heads([heads] * layers)
    cases = []
    for _ in range(n):
        candidate = named or tuple(sorted(rng.permutation(layers * heads)[:size].tolist()))
        layer_of = [unit // heads for unit in candidate]
        earlier = [layer_of[:i].count(layer) for i, layer in enumerate(layer_of)]  # units before it in its layer
        groups = []
        for _ in range(controls):
            order = rng.permuted([range(heads)] * layers, axis=1)
            chosen = (layer * heads + int(order[layer][i]) for layer, i in zip(layer_of, earlier, strict=True))
            groups.append(tuple(sorted(chosen)))
        cases.append(Case.of(candidate, units, ControlSets(tuple(groups))))
    return tuple(cases)
