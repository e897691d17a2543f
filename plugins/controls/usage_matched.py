"""Groups with the candidate's size, sites and usage."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

import numpy as np
from annotated_types import Ge
from jaxtyping import Float

from harness import Controls, Profile, UnitSpace, hookimpl
from harness.data.profile import SMALLEST_BIN


@dataclass(frozen=True)
class UsageMatched(Controls):
    """Groups of units at the candidate's sites that are active about as often as its units.

    A unit that is active on few examples can do damage on few. Where usage differs (experts, neurons behind a ReLU,
    latents of a sparse autoencoder), groups of frequent units do more damage than most others, whatever they compute.
    The units of a site are divided into up to ``bins`` bins of about equal size by the rank of their usage: the share
    of the proposal examples on which a unit hands on anything but zero. Units of equal usage share a bin, so that dead
    units are compared with dead units. A bin has at least ``smallest`` units, so that sites with fewer than twice as
    many are one bin, as in ``layer_matched``; so are sites whose units are all always active.

    With few units in a site (8 experts), either usage is matched or there are enough groups to compare with:
    ``smallest=4`` makes two bins of 8 units (preset ``controls=expert_usage``). ``within=family`` makes bins of all
    units of a family, whatever their site: usage is matched closely, and depth is not. A profile with fewer than 19
    other groups allows no p of .05; the verdict is then ``underpowered`` and says how many there are.

    Input: units, usage [units]. Output: a profile whose cells are the bins of each site (or family).
    Errors: a subject that does not say what its units hand on.
    Source: this project.
    """

    name: ClassVar[str] = "usage_matched"
    n: Annotated[int, Ge(1)] | None = field(
        default=None, metadata={"help": "groups to compare with; null: all where there are up to 2000, otherwise 199"}
    )
    bins: Annotated[int, Ge(1)] = field(default=4, metadata={"help": "most bins into which a site is divided"})
    seed: int = field(default=0, metadata={"help": "seed of the draw"})
    smallest: Annotated[int, Ge(1)] = field(
        default=SMALLEST_BIN, metadata={"help": "fewest units in a bin", "added": True}
    )
    within: Literal["site", "family"] = field(
        default="site", metadata={"help": "bins of the units of a site, or of all units of a family", "added": True}
    )

    def __call__(self, units: UnitSpace, usage: Float[np.ndarray, " units"]) -> Profile:
        return Profile.by_bin(units, usage, self.bins, self.smallest, self.within)


@hookimpl
def harness_controls() -> list[type[UsageMatched]]:
    return [UsageMatched]
