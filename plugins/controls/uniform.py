"""Controls with the candidate's size only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from harness import ControlSets, HarnessError, UnitSpace, from_pools, hookimpl


@dataclass(frozen=True)
class Uniform:
    """Random groups of the candidate's size from anywhere in the model, none of its own units.

    The published protocol's controls on natural text. They answer a weaker question than they seem to: a group of early
    heads beats them by being early. With ``pool=layers`` groups come from the candidate's layers, whichever: the
    published protocol's on synthetic batches, but for the candidate's own units, which were in one of its pools. The
    draw is our own; with the same seed as the authors' it gives other groups.

    Input: candidate (positions), units. Output: up to ``n`` distinct groups; none where the pool is smaller than the
    candidate.

    Errors: no control asked for, a pool that is neither.
    Source: closure paper, section 3.8.
    """

    name: ClassVar[str] = "uniform"
    n: int = field(default=99, metadata={"help": "control groups; p cannot go below 1 / (n + 1)"})
    pool: Literal["model", "layers"] = field(default="model", metadata={"help": "drawn from: all, or own layers"})
    seed: int = field(default=0, metadata={"help": "of the draw"})

    def __post_init__(self) -> None:
        if self.n < 1:
            raise HarnessError(f"controls.n={self.n}: at least one control is needed.")
        if self.pool not in ("model", "layers"):
            raise HarnessError(f"controls.pool={self.pool}: it is `model` or `layers`.", "The default is model.")

    def __call__(self, candidate: tuple[int, ...], units: UnitSpace) -> ControlSets:
        own_layers = {int(units.layers[unit]) for unit in candidate}
        pool = units.in_layers(own_layers) if self.pool == "layers" else range(len(units))
        return from_pools(candidate, [pool], units, self.n, self.seed)


@hookimpl
def harness_controls() -> list[type[Uniform]]:
    return [Uniform]
