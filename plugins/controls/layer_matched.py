"""Controls with the candidate's size and layers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from harness import ControlSets, HarnessError, UnitSpace, from_pools, hookimpl, layer_bands


@dataclass(frozen=True)
class LayerMatched:
    """Random groups with as many units in each layer as the candidate has, and none of its own.

    Early layers carry more of a model than late ones: against unmatched controls an early group scores tens of sigma,
    against matched ones two. Where a layer has too few units left, it is matched together with its nearest
    neighbours: a band of layers around it, grown until it holds ``n`` distinct choices (or is the whole model). What
    was missing is reported per layer in ``shortfall``. Candidates with as many units in each layer are given groups in
    the same order, whoever proposed them, each those that are free of its units.

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
        bands, shortfall = layer_bands(candidate, units, self.n)
        return from_pools(candidate, map(units.in_layers, bands), units, self.n, self.seed, shortfall)


@hookimpl
def harness_controls() -> list[type[LayerMatched]]:
    return [LayerMatched]
