"""What is put to the test: a candidate, its parts and its controls, evaluated in rounds until no more are worth it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from harness.batch import Batch
from harness.closure.anatomy import ActiveRule
from harness.closure.draw import Group
from harness.closure.rounds import hopeless, rounds
from harness.closure.verdict import asked_first
from harness.errors import HarnessError
from harness.groups import Labels
from harness.proposal import reseeded
from harness.recording import Activity
from harness.seeds import seed_for
from harness.stages import Controls, ControlSets, Intervention, Metric, Subject, Tick, asked, supply

Values = Mapping[Group, Float[np.ndarray, "metrics examples"]]
"""Every metric on every example, by the group that was ablated; ``()`` is the untouched model."""
LARGEST_TAKEN_APART = 16  # two conditions per member: the parts of a larger group would cost more than its controls


@dataclass(frozen=True)
class Trial:
    """How groups are put to the test: everything but the group.

    ``reference``: other examples, for interventions that average over those; ``elsewhere``: examples of another kind,
    on which a group that is specific to this one does no damage; ``activity``: the units' on ``batch``, by which a
    group is active (``rule``) or not; ``give_up``: as many controls that do at least as much damage end the test of a
    candidate (:mod:`harness.closure.rounds`); ``labels`` and ``strength`` (a mean output norm per unit): what controls
    may be matched by, measured when asked for.
    """

    subject: Subject
    batch: Batch
    intervention: Intervention
    controls: Controls
    metrics: Sequence[Metric]
    alpha: float = 0.05
    ddof: Literal[0, 1] = 1
    seed: int = 0
    give_up: int | None = 10
    reference: Batch | None = None
    elsewhere: Batch | None = None
    activity: Activity | None = None
    rule: ActiveRule = "any"
    labels: Callable[[], Labels] | None = None
    strength: Callable[[], Float[np.ndarray, " units"]] | None = None

    def evaluate(
        self, batch: Batch, conditions: Sequence[Group], tick: Tick
    ) -> Float[np.ndarray, "metrics _ examples"]:
        """Every metric on every example of a batch, under each condition."""
        return self.subject.evaluate(batch, conditions, self.intervention, self.metrics, tick, self.reference)

    def draw(self, candidate: Group, place: int = 0) -> ControlSets:
        """The controls of a candidate; ``place``: how many of its size come before it in its cell.

        The first of every cell go through one order of groups, the second through another, and so on. They do not share
        one within a cell: the best of ten random groups does more than all of 99 others in 10 of 109 cells, and max-T,
        which holds it against the worst of ten draws each time, needs more groups than these to know how bad that is.
        With the same 99 for all, each candidate's a place later in its list, it has p <= 5 % in 8 % of cells where
        nothing is a circuit (13 % with twenty candidates); with controls of their own, in 5 %.
        """
        controls = self.controls
        if place:
            controls = reseeded(controls, seed_for(getattr(controls, "seed", 0), f"controls in place {place}"))
        known: dict[str, Any] = {"candidate": candidate, "units": self.subject.units}
        for name, measure in {"labels": self.labels, "strength": self.strength}.items():
            if name in asked(type(controls)):
                if measure is None:
                    raise HarnessError(f"controls {controls.name} ask for {name}, and nobody measured any.")
                known[name] = measure()
        drawn: ControlSets = supply(controls, **known)
        return drawn


@dataclass(frozen=True)
class Case:
    """A candidate, and the groups it is held against: what is to be evaluated.

    ``given_up``: not all its controls; what is inside a group that many random ones equal is not looked for.
    """

    candidate: Group
    layers: Group
    drawn: ControlSets
    parts: tuple[Group, ...]
    without: tuple[Group, ...]
    everything: Group
    others: Group
    given_up: bool = False

    @classmethod
    def of(cls, candidate: Group, trial: Trial, place: int = 0) -> Case:
        """Draw the controls, and take the candidate apart where that does not cost more than they do."""
        units = trial.subject.units
        apart = 1 < len(candidate) <= LARGEST_TAKEN_APART
        everything = tuple(range(len(units)))
        return cls(
            candidate=candidate,
            layers=units.in_layers({int(units.layers[unit]) for unit in candidate}),
            drawn=trial.draw(candidate, place),
            parts=tuple((unit,) for unit in candidate) if apart else (),
            without=tuple(tuple(u for u in candidate if u != unit) for unit in candidate) if apart else (),
            everything=everything,
            others=tuple(unit for unit in everything if unit not in candidate),
        )

    def up_to(self, controls: int) -> Case:
        """The same case with no more controls than this; not taken apart where there would be more."""
        if controls >= len(self.drawn.groups):
            return self
        few = replace(self.drawn, groups=self.drawn.groups[:controls])
        return replace(self, drawn=few, parts=(), without=(), given_up=True)

    @property
    def groups(self) -> list[Group]:
        """Every group of it that is ablated."""
        compared = [self.candidate, self.layers, *self.drawn.groups]
        return compared if self.given_up else [*compared, *self.parts, *self.without, self.everything, self.others]


def cases_of(candidates: Iterable[Group], trial: Trial) -> tuple[Case, ...]:
    """The cases of a cell. Candidates of one size have controls of their own each, see :meth:`Trial.draw`."""
    seen: Counter[int] = Counter()
    cases = []
    for candidate in candidates:
        cases.append(Case.of(candidate, trial, seen[len(candidate)]))
        seen[len(candidate)] += 1
    return tuple(cases)


def conditions(cases: Iterable[Case]) -> list[Group]:
    """Every group that is ablated, once; the untouched model first."""
    return list(dict.fromkeys([(), *(group for case in cases for group in case.groups)]))


def evaluated(cases: Sequence[Case], trial: Trial, tick: Tick) -> tuple[list[Case], Values]:
    """Rounds of controls until every candidate is given up, or has no more: the cases as far as they went, and all
    values. What several candidates have in common is evaluated once.
    """
    values: dict[Group, np.ndarray] = {}
    held: list[Case] = []
    for end in rounds(max((len(case.drawn.groups) for case in cases), default=0), trial.alpha, trial.give_up):
        held = [case.up_to(end) for case in cases]
        missing = [group for group in conditions(held) if group not in values]
        if missing:
            found = trial.evaluate(trial.batch, missing, tick)
            values |= {group: found[:, i] for i, group in enumerate(missing)}
        if trial.give_up is not None and all(_given_up(case, trial, values, trial.give_up) for case in held):
            break
    return held, values


def _given_up(case: Case, trial: Trial, values: Values, give_up: int) -> bool:
    """No more controls are worth it, by the metric asked first; where none has room to fall they never are."""
    if not case.given_up:
        return True  # it has had all there are
    usable = {
        metric.name: (m, metric) for m, metric in enumerate(trial.metrics) if not saturated(metric, values[()][m])
    }
    if not usable:
        return True
    m, metric = usable[asked_first(usable)[0]]
    groups = [case.candidate, *case.drawn.groups]
    delta, *controls = (float((values[group][m] - values[()][m]).mean()) for group in groups)
    return hopeless(delta, controls, case.drawn.widening, metric.damage, give_up)


def saturated(metric: Metric, untouched: Float[np.ndarray, " examples"]) -> bool:
    """The untouched model is as bad as can be already."""
    return float(untouched.mean()) == getattr(metric, "worst", None)
