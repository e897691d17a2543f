"""Controls with the candidate's size only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from harness.closure.draw import draw_distinct
from harness.errors import HarnessError
from harness.hookspecs import hookimpl
from harness.seeds import rng_for
from harness.stages import ControlSets
from harness.units import UnitSpace


@dataclass(frozen=True)
class Uniform:
    """Random groups of the candidate's size from anywhere in the model, none of its own units.

    The published protocol's controls on natural text. They answer a weaker question than they seem to: a group of early
    heads beats them by being early.

    Input: candidate (positions), units. Output: up to ``n`` distinct groups; none where the rest of the model is
    smaller than the candidate.

    Errors: no control asked for.
    Source: closure paper, section 3.8.
    """

    name: ClassVar[str] = "uniform"
    n: int = field(default=99, metadata={"help": "control groups; p cannot go below 1 / (n + 1)"})
    seed: int = field(default=0, metadata={"help": "of the draw"})

    def __post_init__(self) -> None:
        if self.n < 1:
            raise HarnessError(f"controls.n={self.n}: at least one control is needed.")

    def __call__(self, candidate: tuple[int, ...], units: UnitSpace) -> ControlSets:
        rest = sorted(set(range(len(units))) - set(candidate))
        return ControlSets(draw_distinct([(rest, len(candidate))], self.n, rng_for(self.seed, "controls")))


@hookimpl
def harness_controls() -> list[type[Uniform]]:
    return [Uniform]
