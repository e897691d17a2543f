"""Controls with the candidate's size and layers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from harness.closure.draw import draw_distinct
from harness.errors import HarnessError
from harness.hookspecs import hookimpl
from harness.seeds import rng_for
from harness.stages import ControlSets
from harness.units import UnitSpace


@dataclass(frozen=True)
class LayerMatched:
    """Random groups with as many units in each layer as the candidate has, and none of its own.

    Early layers carry more of a model than late ones: against unmatched controls an early group scores tens of sigma,
    against matched ones two. A layer with too few units left lends from the nearest layers that have some (the earlier
    one first); what was missing is reported per layer in ``shortfall``.

    Input: candidate (positions), units. Output: up to ``n`` distinct groups of the candidate's size; all there are
    where there are fewer; none where the rest of the model is smaller than the candidate.

    Errors: no control asked for.
    Source: facts on the published controls: design, "Statistics that hold".
    """

    name: ClassVar[str] = "layer_matched"
    n: int = field(default=99, metadata={"help": "control groups; p cannot go below 1 / (n + 1)"})
    seed: int = field(default=0, metadata={"help": "of the draw"})

    def __post_init__(self) -> None:
        if self.n < 1:
            raise HarnessError(f"controls.n={self.n}: at least one control is needed.")

    def __call__(self, candidate: tuple[int, ...], units: UnitSpace) -> ControlSets:
        pools: dict[int, list[int]] = {int(layer): [] for layer in np.unique(units.layers)}
        for unit in sorted(set(range(len(units))) - set(candidate)):
            pools[int(units.layers[unit])].append(unit)
        wanted = Counter(int(units.layers[unit]) for unit in candidate)
        shortfall = {layer: n - len(pools[layer]) for layer, n in sorted(wanted.items()) if n > len(pools[layer])}
        wanted -= Counter(shortfall)
        for layer in Counter(shortfall).elements():
            lenders = [(abs(other - layer), other) for other in pools if len(pools[other]) > wanted[other]]
            if not lenders:
                return ControlSets((), shortfall)
            wanted[min(lenders)[1]] += 1
        drawn = [(pools[layer], n) for layer, n in sorted(wanted.items()) if n]
        return ControlSets(draw_distinct(drawn, self.n, rng_for(self.seed, "controls")), shortfall)


@hookimpl
def harness_controls() -> list[type[LayerMatched]]:
    return [LayerMatched]
