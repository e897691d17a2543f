"""Groups with the candidate's size, sites and usage."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Ge
from jaxtyping import Float

from harness import Controls, Profile, UnitSpace, hookimpl


@dataclass(frozen=True)
class UsageMatched(Controls):
    """Groups of units at the candidate's sites that are active about as often as its units.

    A unit that is active on few examples can do damage on few. Where usage differs (experts, neurons behind a ReLU,
    latents of a sparse autoencoder), groups of frequent units do more damage than most others, whatever they compute.
    The units of a site are divided into up to ``bins`` bins of about equal size by the rank of their usage: the share
    of the proposal examples on which a unit hands on anything but zero. Units of equal usage share a bin, so that dead
    units are compared with dead units. Sites with fewer than 16 units are one bin, as in ``layer_matched``; so are
    sites whose units are all always active.

    Input: units, usage [units]. Output: a profile whose cells are the bins of each site.
    Errors: a subject that does not say what its units hand on.
    Source: this project.
    """

    name: ClassVar[str] = "usage_matched"
    n: Annotated[int, Ge(1)] | None = field(
        default=None, metadata={"help": "groups to compare with; null: all where there are up to 2000, otherwise 199"}
    )
    bins: Annotated[int, Ge(1)] = field(default=4, metadata={"help": "most bins into which a site is divided"})
    seed: int = field(default=0, metadata={"help": "seed of the draw"})

    def __call__(self, units: UnitSpace, usage: Float[np.ndarray, " units"]) -> Profile:
        return Profile.by_bin(units, usage, self.bins)


@hookimpl
def harness_controls() -> list[type[UsageMatched]]:
    return [UsageMatched]
