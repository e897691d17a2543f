"""Controls with the candidate's size and sites."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from annotated_types import Ge

from harness import Controls, ControlSets, UnitSpace, from_pools, hookimpl, site_bands


@dataclass(frozen=True)
class LayerMatched(Controls):
    """Random groups with as many units in each site as the candidate, and none of its units.

    The heads of a layer are one site; so are the neurons of an MLP.

    Ablating early layers does more damage than ablating late ones: an early group can have a z of more than ten against
    unmatched controls, and a z of two against matched ones. A site with too few units left is matched together with its
    nearest neighbours of the same family: a band of sites around it, which grows until it has ``n`` distinct choices
    (or is the whole family). ``shortfall`` gives the number of missing units per site. Candidates with the same number
    of units in each site get the same sequence of groups, without those that share a unit with the candidate.

    Input: candidate (positions), units. Output: up to ``n`` distinct groups of the candidate's size; fewer if there are
    not that many; none if the rest of the model is smaller than the candidate.

    Source: the published controls of the closure paper, section 4, compared layer by layer.
    """

    name: ClassVar[str] = "layer_matched"
    n: Annotated[int, Ge(1)] = field(default=99, metadata={"help": "control groups; the smallest p is 1 / (n + 1)"})
    seed: int = field(default=0, metadata={"help": "seed of the draw"})

    def __call__(self, candidate: tuple[int, ...], units: UnitSpace) -> ControlSets:
        bands, shortfall = site_bands(candidate, units, self.n)
        return from_pools(candidate, map(units.at_sites, bands), units, self.n, self.seed, shortfall)


@hookimpl
def harness_controls() -> list[type[LayerMatched]]:
    return [LayerMatched]
