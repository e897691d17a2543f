"""The contract suite catches interventions, controls and metrics that break it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import torch

from harness.stages import ControlSets
from harness.testing.contracts import Finding
from harness.units import UnitSpace

ANSWERS = "answers ordinary input"
UNTOUCHED = "leaves its input as it was"
GLOBAL = "keeps out of global random state"


class Intervention:
    """Silence."""

    name: ClassVar[str] = "intervention"

    def __call__(self, output: torch.Tensor) -> Any:
        return torch.zeros_like(output)


class InPlace(Intervention):
    """Silences the original as well."""

    def __call__(self, output: torch.Tensor) -> torch.Tensor:
        return output.zero_()


class Widening(Intervention):
    """Answers in single precision, whatever it is asked in."""

    def __call__(self, output: torch.Tensor) -> torch.Tensor:
        return output.mean(dim=0).float()


class Misshapen(Intervention):
    """One number per row, on the wrong side."""

    def __call__(self, output: torch.Tensor) -> torch.Tensor:
        return output.new_zeros(len(output))


class Noisy(Intervention):
    """Writes noise from everybody's dice."""

    def __call__(self, output: torch.Tensor) -> torch.Tensor:
        return torch.randn_like(output)


INTERVENTIONS = {
    InPlace: (UNTOUCHED, "changed its input"),
    Widening: ("keeps the dtype", "turns torch.bfloat16 into torch.float32"),
    Misshapen: (ANSWERS, r"shape \(3,\) does not broadcast"),
    Noisy: (GLOBAL, "moved a global random state"),
}


class Controls:
    """Random groups."""

    name: ClassVar[str] = "controls"
    n: int = field(default=9, metadata={"help": "how many"})
    seed: int = field(default=0, metadata={"help": "of the draw"})

    def __call__(self, candidate: tuple[int, ...], units: UnitSpace) -> ControlSets:
        rest = [unit for unit in range(len(units)) if unit not in candidate]
        if len(rest) < len(candidate):
            return ControlSets(())
        rng = np.random.default_rng(self.seed)
        drawn = {tuple(sorted(rng.choice(rest, len(candidate), replace=False).tolist())) for _ in range(self.n)}
        return ControlSets(self.spoil(tuple(sorted(drawn)), candidate))

    def spoil(self, groups: tuple[tuple[int, ...], ...], candidate: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
        return groups


class Overlapping(Controls):
    """Takes a unit of the candidate into a control."""

    def spoil(self, groups: tuple[tuple[int, ...], ...], candidate: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
        return (*groups[1:], (candidate[0], *groups[0][1:]))


class Repeating(Controls):
    """Draws one control twice, in another order."""

    def spoil(self, groups: tuple[tuple[int, ...], ...], candidate: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
        return (*groups[1:], tuple(reversed(groups[1])))


class Smaller(Controls):
    """Draws a control that is too small."""

    def spoil(self, groups: tuple[tuple[int, ...], ...], candidate: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
        return (*groups[1:], groups[0][1:])


class Fixed(Controls):
    """Takes a seed and ignores it."""

    def __call__(self, candidate: tuple[int, ...], units: UnitSpace) -> ControlSets:
        return Controls.__call__(replace(self, seed=0), candidate, units)  # type: ignore[type-var]


class Demanding(Controls):
    """Has no answer where nothing is left."""

    def __call__(self, candidate: tuple[int, ...], units: UnitSpace) -> ControlSets:
        if len(candidate) == len(units):
            raise ValueError("nothing left")
        return super().__call__(candidate, units)


CONTROLS = {
    Overlapping: (ANSWERS, "shares a unit with the candidate"),
    Repeating: (ANSWERS, "drawn twice"),
    Smaller: (ANSWERS, "has not the candidate's 4 units"),
    Fixed: ("draws others with another seed", "the seed changes nothing"),
    Demanding: ("draws none where nothing is left", "ValueError"),
}


class Metric:
    """The logit of the target."""

    name: ClassVar[str] = "metric"
    damage: ClassVar[int] = -1

    def __call__(self, prediction: Any) -> torch.Tensor:
        return prediction.logits.gather(1, prediction.target[:, None])[:, 0]


class Backwards(Metric):
    """Calls an improvement damage."""

    damage: ClassVar[int] = 1


class Undirected(Metric):
    """Does not say which way damage points."""

    damage: ClassVar[int] = 0


class Summary(Metric):
    """One number for all rows."""

    def __call__(self, prediction: Any) -> torch.Tensor:
        return super().__call__(prediction).mean()


class Competitive(Metric):
    """Measures a row against the others."""

    def __call__(self, prediction: Any) -> torch.Tensor:
        values = super().__call__(prediction)
        return values - 0.5 * values.mean()


METRICS = {
    Backwards: ("says which way damage points", "moves it the other way"),
    Undirected: (ANSWERS, "its damage is 0"),
    Summary: (ANSWERS, "not one number per row"),
    Competitive: ("measures each row by itself", "depends on the other rows"),
}

INNOCENT = {"intervention": Intervention, "controls": Controls, "metric": Metric}
OFFENDERS = {"intervention": INTERVENTIONS, "controls": CONTROLS, "metric": METRICS}
for frozen in (*INNOCENT.values(), *(cls for of in OFFENDERS.values() for cls in of)):
    dataclass(frozen=True)(frozen)


def test_what_the_offenders_differ_from_is_innocent(
    stage: str, cls: type, findings: Callable[[str, type], list[Finding]]
) -> None:
    assert [finding for finding in findings(stage, cls) if finding.outcome == "failed"] == []


def test_an_offender_is_found_out(
    stage: str, cls: type, check: str, reason: str, found_out: Callable[[str, type, str, str], None]
) -> None:
    found_out(stage, cls, check, reason)
