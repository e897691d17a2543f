"""Controls with the candidate's size and layers."""

from __future__ import annotations

import math
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
    against matched ones two. Where a layer has too few units left, it is matched together with its nearest
    neighbours: a band of layers around it, grown until it holds ``n`` distinct choices (or is the whole model). What
    was missing is reported per layer in ``shortfall``.

    Input: candidate (positions), units. Output: up to ``n`` distinct groups of the candidate's size; all there are
    where there are fewer; none where the rest of the model is smaller than the candidate.

    Errors: no control asked for.
    Source: the published controls of the closure paper, section 4, compared layer by layer.
    """

    name: ClassVar[str] = "layer_matched"
    n: int = field(default=99, metadata={"help": "control groups; p cannot go below 1 / (n + 1)"})
    seed: int = field(default=0, metadata={"help": "of the draw"})

    def __post_init__(self) -> None:
        if self.n < 1:
            raise HarnessError(f"controls.n={self.n}: at least one control is needed.")

    def __call__(self, candidate: tuple[int, ...], units: UnitSpace) -> ControlSets:
        wanted = Counter(int(units.layers[unit]) for unit in candidate)
        left: dict[int, list[int]] = {int(layer): [] for layer in np.unique(units.layers)}
        for unit in sorted(set(range(len(units))) - set(candidate)):
            left[int(units.layers[unit])].append(unit)
        shortfall = {layer: n - len(left[layer]) for layer, n in sorted(wanted.items()) if n > len(left[layer])}
        if len(candidate) * 2 > len(units):
            return ControlSets((), shortfall)
        pools = [
            ([unit for layer in band for unit in left[layer]], sum(wanted[layer] for layer in band))
            for band in self._bands(left, wanted, list(shortfall))
        ]
        drawn = [(pool, count) for pool, count in pools if count]
        return ControlSets(draw_distinct(drawn, self.n, rng_for(self.seed, "controls")), shortfall)

    def _bands(self, left: dict[int, list[int]], wanted: Counter[int], short: list[int]) -> list[list[int]]:
        """Layers that are matched together: each alone, but for bands around short ones, as narrow as will do."""
        layers = sorted(left)
        for reach in range(len(layers)):
            bands: list[list[int]] = []
            for place, layer in enumerate(layers):
                near = [at for at in range(place - reach, place + reach + 1) if 0 <= at < len(layers)]
                joined = {layer, *(layers[at] for at in near)} if layer in short else {layer}
                apart = [band for band in bands if joined.isdisjoint(band)]
                bands = [*apart, sorted(joined.union(*(band for band in bands if band not in apart)))]
            if all(self._enough(band, left, wanted) for band in bands if set(band) & set(short)):
                return bands
        return [layers]

    def _enough(self, band: list[int], left: dict[int, list[int]], wanted: Counter[int]) -> bool:
        return math.comb(sum(len(left[layer]) for layer in band), sum(wanted[layer] for layer in band)) >= self.n


@hookimpl
def harness_controls() -> list[type[LayerMatched]]:
    return [LayerMatched]
