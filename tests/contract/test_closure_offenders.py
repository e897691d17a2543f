"""The contract suite finds interventions, controls and metrics that violate it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from harness.data.batch import Batch
from harness.data.contracts import ControlSets
from harness.data.grouping import Labels
from harness.data.prediction import Prediction
from harness.data.profile import Profile
from harness.data.sampling import from_pools
from harness.data.units import UnitSpace
from harness.testing.contracts import Finding
from harness.util.errors import HarnessError
from harness.util.seeds import rng_for

ANSWERS = "answers ordinary input"
UNCHANGED = "does not change its input"
GLOBAL = "does not use global random state"


class Intervention:
    """Ablates to zero."""

    name: ClassVar[str] = "intervention"

    def __call__(self, output: torch.Tensor) -> Any:
        return torch.zeros_like(output)


class InPlace(Intervention):
    """Changes its input in place."""

    def __call__(self, output: torch.Tensor) -> torch.Tensor:
        return output.zero_()


class Widening(Intervention):
    """Returns single precision for every input."""

    def __call__(self, output: torch.Tensor) -> torch.Tensor:
        return output.mean(dim=0).float()


class Misshapen(Intervention):
    """Returns one number per row on the wrong axis."""

    def __call__(self, output: torch.Tensor) -> torch.Tensor:
        return output.new_zeros(len(output))


class Noisy(Intervention):
    """Draws noise from the global random state."""

    def __call__(self, output: torch.Tensor) -> torch.Tensor:
        return torch.randn_like(output)


class Averaged(Intervention):
    """Replaces outputs by their mean over the positions of the same row."""

    def __call__(self, output: torch.Tensor) -> torch.Tensor:
        return output.mean(dim=1, keepdim=True)


class Somewhere(Intervention):
    """Declares unknown positions."""

    positions: str = field(default="some", metadata={"help": "where heads are ablated"})


class Patching:
    """Patches from the counterfactual; the base of interventions that misuse donors."""

    name: ClassVar[str] = "patching"

    def donors(self, batch: Batch) -> Any:
        return batch.counterfactual_batch

    def __call__(self, donor: torch.Tensor) -> torch.Tensor:
        return donor


class Donorless:
    """Requests donors but defines none."""

    name: ClassVar[str] = "donorless"

    def __call__(self, donor: torch.Tensor) -> torch.Tensor:
        return donor


class Few(Patching):
    """Has donors for only half of the examples."""

    def donors(self, batch: Batch) -> Any:
        return batch.take(np.arange(0, len(batch), 2))


class Elsewhere(Patching):
    """Has donors with other query positions."""

    def donors(self, batch: Batch) -> Any:
        return batch.take(np.arange(len(batch))[::-1])


class Bare(Patching):
    """Returns tokens instead of a batch of donors."""

    def donors(self, batch: Batch) -> Any:
        return batch.tokens[::-1]


class Whimsical(Patching):
    """Draws different donors at each call."""

    def donors(self, batch: Batch) -> Any:
        return replace(batch, tokens=np.random.default_rng().permutation(batch.tokens))


class Robber(Patching):
    """Changes the examples to make its donors."""

    def donors(self, batch: Batch) -> Any:
        batch.tokens[:] = batch.tokens[::-1].copy()
        return batch


class Curt(Patching):
    """Refuses a batch without counterfactuals but gives no fix."""

    def donors(self, batch: Batch) -> Any:
        if batch.counterfactual is None:
            raise HarnessError("There are no counterfactuals.")
        return batch.counterfactual_batch


DONORS = "has a donor for every example"
INTERVENTIONS = {
    Somewhere: ("declares where units are ablated", "its positions are 'some'"),
    Donorless: (DONORS, r"does not define donors\(batch\)"),
    Few: (DONORS, "24 examples but 12 donors"),
    Elsewhere: (DONORS, "do not have the query positions of their examples"),
    Bare: (DONORS, "ndarray, not Batch"),
    Whimsical: (DONORS, "two calls of donors.* differ"),
    Robber: (DONORS, "changed the batch"),
    Curt: (DONORS, "has no fix"),
    InPlace: (UNCHANGED, "changed its input"),
    Widening: ("keeps the dtype", "turns torch.bfloat16 into torch.float32"),
    Misshapen: (ANSWERS, r"shape \(3,\) does not broadcast"),
    Averaged: ("replaces each position independently", "depends on other positions"),
    Noisy: (GLOBAL, "changed a global random state"),
}


class Controls:
    """Matches groups by site, and draws random disjoint ones."""

    name: ClassVar[str] = "controls"
    n: int = field(default=9, metadata={"help": "how many"})
    seed: int = field(default=0, metadata={"help": "of the draw"})

    def __call__(self, units: UnitSpace) -> Any:
        return Profile.by_site(units)

    def disjoint(self, candidate: tuple[int, ...], units: UnitSpace, n: int) -> ControlSets:
        drawn = from_pools(candidate, [range(len(units))], units, n, self.seed)
        return ControlSets(self.spoil(drawn.groups, candidate) if drawn.groups else ())

    def spoil(self, groups: tuple[tuple[int, ...], ...], candidate: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
        return groups


class Partition:
    """Matches groups by strength, and leaves the former test's groups to the profile."""

    name: ClassVar[str] = "partition"
    n: int | None = field(default=None, metadata={"help": "how many"})

    def __call__(self, units: UnitSpace, strength: Any) -> Profile:
        return Profile.by_bin(units, strength, 2)


class Nameless(Controls):
    """Returns the site of every unit instead of a profile."""

    def __call__(self, units: UnitSpace) -> Any:
        return units.site_of


class Partial(Controls):
    """Leaves the last units without a cell."""

    def __call__(self, units: UnitSpace) -> Any:
        return Profile(units.site_of[:-2], units.sites)


class Unused(Controls):
    """Names a cell without units."""

    def __call__(self, units: UnitSpace) -> Any:
        return Profile(units.site_of, (*units.sites, "nowhere"))


class Twice(Controls):
    """Gives two cells the same name."""

    def __call__(self, units: UnitSpace) -> Any:
        return Profile(units.site_of, ("site",) * len(units.sites))


class Counting(Controls):
    """Alternates cells in the order in which units happen to come."""

    def __call__(self, units: UnitSpace) -> Any:
        return Profile.of(units, [str(place % 2) for place in range(len(units))])


class Drawing(Controls):
    """Draws a new partition at every call."""

    def __call__(self, units: UnitSpace) -> Any:
        return Profile.of(units, [str(cell) for cell in np.random.default_rng().integers(3, size=len(units))])


class Overlapping(Controls):
    """Draws a control that contains a unit of the candidate."""

    def spoil(self, groups: tuple[tuple[int, ...], ...], candidate: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
        return (*groups[1:], (candidate[0], *groups[0][1:]))


class Repeating(Controls):
    """Draws one control twice, in a different order."""

    def spoil(self, groups: tuple[tuple[int, ...], ...], candidate: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
        return (*groups[1:], tuple(reversed(groups[1])))


class Smaller(Controls):
    """Draws a control that is too small."""

    def spoil(self, groups: tuple[tuple[int, ...], ...], candidate: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
        return (*groups[1:], groups[0][1:])


class Fixed(Controls):
    """Ignores its seed."""

    def disjoint(self, candidate: tuple[int, ...], units: UnitSpace, n: int) -> ControlSets:
        return Controls.disjoint(replace(self, seed=0), candidate, units, n)  # type: ignore[type-var]


class Demanding(Controls):
    """Fails if no other unit is left."""

    def disjoint(self, candidate: tuple[int, ...], units: UnitSpace, n: int) -> ControlSets:
        if len(candidate) == len(units):
            raise ValueError("nothing left")
        return super().disjoint(candidate, units, n)


class Anchored(Controls):
    """Depends on the order of units."""

    def disjoint(self, candidate: tuple[int, ...], units: UnitSpace, n: int) -> ControlSets:
        rest = [unit for unit in range(len(units)) if unit not in candidate]
        if len(rest) < len(candidate):
            return ControlSets(())
        rng = rng_for(self.seed, "controls")
        groups = {tuple(sorted(rng.permutation(rest)[: len(candidate)].tolist())) for _ in range(n)}
        return ControlSets(tuple(sorted(groups)))


class Careless(Controls):
    """Uses units of the candidate if a layer has too few others; selects units of a class by their labels."""

    def disjoint(
        self, candidate: tuple[int, ...], units: UnitSpace, labels: Labels, strength: Any, n: int
    ) -> ControlSets:
        pool = units.at_sites(units.sites_of(candidate))
        eligible = {unit for unit in pool if labels.classes[unit] and strength[unit] > 0}
        rest = sorted(eligible.difference(candidate))
        if len(rest) < len(candidate):
            rest = sorted(eligible)
        groups = {tuple(rest[start : start + len(candidate)]) for start in range(len(rest) - len(candidate))}
        return ControlSets(tuple(sorted(groups))[:n])


class Alarmist(Controls):
    """Reports a shortfall of zero."""

    def disjoint(self, candidate: tuple[int, ...], units: UnitSpace, n: int) -> ControlSets:
        return ControlSets(super().disjoint(candidate, units, n).groups, {0: 0})


DISJOINT = "draws disjoint groups"
CONTROLS = {
    Nameless: (ANSWERS, "ndarray, not Profile"),
    Partial: (ANSWERS, r"its cells have shape \(22,\), not one per unit"),
    Unused: (ANSWERS, r"units are in cells \[0, 1, 2\], its names are of 4"),
    Twice: (ANSWERS, "the same name"),
    Counting: ("does not depend on the order of units", "cells change when units are permuted"),
    Drawing: ("gives the same result twice", "two calls"),
    Anchored: ("draws the same groups for units in another order", "change when units are permuted"),
    Careless: ("answers if few other units are left", "shares a unit with the candidate"),
    Alarmist: (DISJOINT, "not positive"),
    Overlapping: (DISJOINT, "shares a unit with the candidate"),
    Repeating: (DISJOINT, "drawn twice"),
    Smaller: (DISJOINT, "has 3 units, the candidate has 4"),
    Fixed: ("draws other groups with another seed", "another seed draws the same groups"),
    Demanding: ("draws none if no other unit is left", "ValueError"),
}


class Metric:
    """The logit of the target."""

    name: ClassVar[str] = "metric"
    damage: ClassVar[int] = -1

    def __call__(self, prediction: Any) -> torch.Tensor:
        return prediction.logits.gather(1, prediction.target[:, None])[:, 0]


class Backwards(Metric):
    """Declares improvement as damage."""

    damage: ClassVar[int] = 1


class Undirected(Metric):
    """Does not declare the direction of damage."""

    damage: ClassVar[int] = 0


class Summary(Metric):
    """Returns one number for all rows."""

    def __call__(self, prediction: Any) -> torch.Tensor:
        return super().__call__(prediction).mean()


class Competitive(Metric):
    """Compares a row with the others."""

    def __call__(self, prediction: Any) -> torch.Tensor:
        values = super().__call__(prediction)
        return values - 0.5 * values.mean()


class Distance:
    """The change of the target logit; the base of metrics that misuse the baseline model."""

    name: ClassVar[str] = "distance"
    damage: ClassVar[int] = 1

    def __call__(self, prediction: Prediction) -> torch.Tensor:
        if prediction.baseline is None:
            raise HarnessError("metric=distance needs the baseline model's logits.", "Leave it out of metric=[...].")
        return self.between(prediction.logits, prediction.baseline)

    def between(self, logits: torch.Tensor, baseline: torch.Tensor) -> torch.Tensor:
        return (logits - baseline).abs().amax(dim=1)


class Crooked(Distance):
    """Reorders the tokens of the baseline model."""

    def between(self, logits: torch.Tensor, baseline: torch.Tensor) -> torch.Tensor:
        return (logits - baseline.flip(1)).square().mean(dim=1)


class Unsuspecting(Distance):
    """Fails without a baseline model."""

    def __call__(self, prediction: Any) -> torch.Tensor:
        return self.between(prediction.logits, prediction.baseline)


class Silent(Distance):
    """Refuses without an explanation."""

    def __call__(self, prediction: Prediction) -> torch.Tensor:
        if prediction.baseline is None:
            raise HarnessError("no baseline model")
        return self.between(prediction.logits, prediction.baseline)


class Resourceful(Metric):
    """Measures something else without a counterfactual."""

    def __call__(self, prediction: Prediction) -> torch.Tensor:
        difference = super().__call__(prediction)
        if prediction.counterfactual is None:
            return difference
        return difference - prediction.logits.gather(1, prediction.counterfactual[:, None])[:, 0]


class Optimist(Metric):
    """Turns NaN into a number."""

    def __call__(self, prediction: Prediction) -> torch.Tensor:
        return super().__call__(prediction).nan_to_num()


WITHOUT = "ignores or refuses missing inputs"
METRICS = {
    Crooked: ("gives equal values on the baseline", "values differ between rows without ablation"),
    Unsuspecting: (WITHOUT, "TypeError"),
    Silent: (WITHOUT, "write a sentence"),
    Resourceful: (WITHOUT, "measures something else"),
    Optimist: ("keeps nan", "a row of NaN has the value 0"),
    Backwards: ("declares the direction of damage", "changes it in the other direction"),
    Undirected: (ANSWERS, "its damage is 0"),
    Summary: (ANSWERS, "not one number per row"),
    Competitive: ("measures each row independently", "depends on the other rows"),
}

CORRECT = {"intervention": Intervention, "controls": Controls, "metric": Metric}
OFFENDERS = {"intervention": INTERVENTIONS, "controls": CONTROLS, "metric": METRICS}
for frozen in (
    Patching,
    Distance,
    Partition,
    *CORRECT.values(),
    *(cls for classes in OFFENDERS.values() for cls in classes),
):
    dataclass(frozen=True)(frozen)


@pytest.mark.parametrize(("place", "base"), [("intervention", Patching), ("metric", Distance)])
def test_methods_that_use_a_donor_or_the_baseline_model_correctly_pass(
    place: str, base: type, findings: Callable[[str, type], list[Finding]]
) -> None:
    assert [finding for finding in findings(place, base) if finding.outcome != "passed"] == []


def test_controls_may_leave_disjoint_groups_to_their_profile(
    findings: Callable[[str, type], list[Finding]],
) -> None:
    found = findings("controls", Partition)
    assert [finding.check for finding in found if finding.outcome == "failed"] == []
    assert any("it has no `disjoint`" in finding.reason for finding in found)


def test_the_correct_versions_of_the_offenders_pass(
    stage: str, cls: type, findings: Callable[[str, type], list[Finding]]
) -> None:
    assert [finding for finding in findings(stage, cls) if finding.outcome == "failed"] == []


def test_an_offender_fails_the_expected_check(
    stage: str, cls: type, check: str, reason: str, assert_fails: Callable[[str, type, str, str], None]
) -> None:
    assert_fails(stage, cls, check, reason)
