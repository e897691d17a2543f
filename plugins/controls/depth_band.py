"""Controls with the candidate's size and depth."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from annotated_types import Ge

from harness import Controls, ControlSets, Profile, UnitSpace, from_pools, hookimpl


@dataclass(frozen=True)
class DepthBand(Controls):
    """Random groups with as many units in each band of depths as the candidate, and none of its units.

    For sites of one unit, in which a candidate has no alternatives: MLP layers, streams. The depths of each family of
    units are divided into ``bands`` equal parts (3: early, middle, late), and a control takes as many units of each
    family from each part. Unlike those of ``layer_matched``, bands do not depend on the candidate. The fewer bands, the
    more groups there are, and the less alike they are in depth: ablating early layers does more damage than ablating
    late ones.

    Input: candidate (positions), units. Output: up to ``n`` distinct groups of the candidate's size; fewer if there are
    not that many; none if a band has too few other units.

    Source: this project.
    """

    name: ClassVar[str] = "depth_band"
    n: Annotated[int, Ge(1)] = field(default=99, metadata={"help": "control groups; the smallest p is 1 / (n + 1)"})
    bands: Annotated[int, Ge(1)] = field(default=3, metadata={"help": "parts into which the depths are divided"})
    seed: int = field(default=0, metadata={"help": "seed of the draw"})

    def __call__(self, candidate: tuple[int, ...], units: UnitSpace) -> ControlSets:
        profile = Profile.by_depth_band(units, self.bands)
        return from_pools(candidate, profile.pools(candidate), units, self.n, self.seed)


@hookimpl
def harness_controls() -> list[type[DepthBand]]:
    return [DepthBand]
