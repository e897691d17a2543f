"""Controls with the candidate's size only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge

from harness import Controls, ControlSets, UnitSpace, from_pools, hookimpl


@dataclass(frozen=True)
class Uniform(Controls):
    """Random groups of the candidate's size from the whole model, without its units.

    These are the controls of the published protocol on natural text. The comparison is weaker than it seems: a group of
    early heads beats them because it is early. With ``pool=layers`` the groups come from the candidate's layers, in any
    proportion: the published protocol on synthetic batches, except that there one of the pools contained the
    candidate's units. The draw differs from the authors': the same seed gives other groups.

    Input: candidate (positions), units. Output: up to ``n`` distinct groups; none if the pool is smaller than the
    candidate.

    Source: closure paper, section 3.8.
    """

    name: ClassVar[str] = "uniform"
    n: Annotated[int, Ge(1)] = field(default=99, metadata={"help": "control groups; the smallest p is 1 / (n + 1)"})
    pool: Literal["model", "layers"] = field(
        default="model", metadata={"help": "whole model, or the candidate's layers"}
    )
    seed: int = field(default=0, metadata={"help": "seed of the draw"})

    def __call__(self, candidate: tuple[int, ...], units: UnitSpace) -> ControlSets:
        pool = units.at_sites(units.sites_of(candidate)) if self.pool == "layers" else range(len(units))
        return from_pools(candidate, [pool], units, self.n, self.seed)


@hookimpl
def harness_controls() -> list[type[Uniform]]:
    return [Uniform]
