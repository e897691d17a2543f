"""Groups with the candidate's size and sites."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from annotated_types import Ge

from harness import Controls, ControlSets, Profile, UnitSpace, from_pools, hookimpl, site_bands


@dataclass(frozen=True)
class LayerMatched(Controls):
    """Groups with as many units in each site as the candidate.

    The heads of a layer are one site; so are the neurons of an MLP. Ablating early layers does more damage than
    ablating late ones: an early group can have a z of more than ten against unmatched groups, and a z of two against
    matched ones. A candidate that fills its sites has nothing to be compared with.

    With ``test=disjoint``, a site with too few other units is matched together with its nearest neighbours of the same
    family: a band of sites, which grows until it has ``n`` distinct choices (or is the whole family). ``shortfall``
    gives the number of missing units per site.

    Input: units. Output: a profile whose cells are the sites.
    Source: the published controls of the closure paper, section 4, compared layer by layer.
    """

    name: ClassVar[str] = "layer_matched"
    n: Annotated[int, Ge(1)] | None = field(
        default=None, metadata={"help": "groups to compare with; null: all where there are up to 2000, otherwise 199"}
    )
    seed: int = field(default=0, metadata={"help": "seed of the draw"})

    def __call__(self, units: UnitSpace) -> Profile:
        return Profile.by_site(units)

    def disjoint(self, candidate: tuple[int, ...], units: UnitSpace, n: int) -> ControlSets:
        bands, shortfall = site_bands(candidate, units, n)
        return from_pools(candidate, map(units.at_sites, bands), units, n, self.seed, shortfall)


@hookimpl
def harness_controls() -> list[type[LayerMatched]]:
    return [LayerMatched]
