"""Groups with the candidate's size only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge

from harness import Controls, ControlSets, HarnessError, Profile, UnitSpace, from_pools, hookimpl


@dataclass(frozen=True)
class Uniform(Controls):
    """Groups of the candidate's size from the whole model.

    These are the controls of the published protocol on natural text, where they share no unit with the candidate
    (``test=disjoint``). The comparison is weaker than it seems: a group of early heads beats them because it is early.
    With ``test=disjoint`` and ``pool=layers`` the groups come from the candidate's layers, in any proportion: the
    published protocol on synthetic batches, except that there one of the pools contained the candidate's units. The
    draw differs from the authors': the same seed gives other groups.

    Input: units. Output: a profile with one cell.
    Errors: ``pool=layers`` in the exact test.
    Source: closure paper, section 3.8.
    """

    name: ClassVar[str] = "uniform"
    n: Annotated[int, Ge(1)] | None = field(
        default=None, metadata={"help": "groups to compare with; null: all where there are up to 2000, otherwise 199"}
    )
    pool: Literal["model", "layers"] = field(
        default="model", metadata={"help": "test=disjoint: from the whole model, or from the candidate's layers"}
    )
    seed: int = field(default=0, metadata={"help": "seed of the draw"})

    def __call__(self, units: UnitSpace) -> Profile:
        if self.pool == "layers":
            raise HarnessError(
                "controls.pool=layers: the candidate's layers are no partition that is fixed before the test.",
                "Use controls=layer_matched, or the former test: test=disjoint.",
            )
        return Profile.of(units, ["the model"] * len(units))

    def disjoint(self, candidate: tuple[int, ...], units: UnitSpace, n: int) -> ControlSets:
        pool = units.at_sites(units.sites_of(candidate)) if self.pool == "layers" else range(len(units))
        return from_pools(candidate, [pool], units, n, self.seed)


@hookimpl
def harness_controls() -> list[type[Uniform]]:
    return [Uniform]
