"""Groups with the candidate's size and depth."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from annotated_types import Ge

from harness import Controls, Profile, UnitSpace, hookimpl


@dataclass(frozen=True)
class DepthBand(Controls):
    """Groups with as many units in each band of depths as the candidate.

    For sites of one unit, in which a candidate has no alternatives: MLP layers, streams. The depths of each family of
    units are divided into ``bands`` equal parts (3: early, middle, late). The fewer bands, the more groups there are,
    and the less alike they are in depth: ablating early layers does more damage than ablating late ones.

    Input: units. Output: a profile whose cells are the bands of each family.
    Source: this project.
    """

    name: ClassVar[str] = "depth_band"
    n: Annotated[int, Ge(1)] | None = field(
        default=None, metadata={"help": "groups to compare with; null: all where there are up to 2000, otherwise 199"}
    )
    bands: Annotated[int, Ge(1)] = field(default=3, metadata={"help": "parts into which the depths are divided"})
    seed: int = field(default=0, metadata={"help": "seed of the draw"})

    def __call__(self, units: UnitSpace) -> Profile:
        return Profile.by_depth_band(units, self.bands)


@hookimpl
def harness_controls() -> list[type[DepthBand]]:
    return [DepthBand]
