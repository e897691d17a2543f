"""Models whose damage is a known function of the ablated group, for tests of the closure test."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, ClassVar, Literal

import numpy as np

from harness.closure.cases import cases_of
from harness.closure.report import CandidateResult, close
from harness.closure.trial import Trial
from harness.data.contracts import Intervention, Metric
from harness.data.sampling import Group
from harness.data.units import UnitSpace
from harness.registry.config import registry
from harness.registry.registry import Registry
from harness.testing import examples

Damage = Callable[[Group], Any]
"""A group's damage: one number, or one for each example."""


@dataclass(frozen=True)
class Score(Metric):
    """A metric that falls by the damage. Its baseline differs between examples."""

    name: str = "score"
    damage: ClassVar[Literal[1, -1]] = -1

    def __call__(self, prediction: Any) -> Any:
        raise NotImplementedError


@dataclass(frozen=True)
class Nothing(Intervention):
    """Stands for an intervention."""

    name: ClassVar[str] = "nothing"

    def __call__(self, output: Any) -> Any:
        raise NotImplementedError


@dataclass(frozen=True)
class World:
    """Evaluates groups by a function. ``evaluated``: every group, in order."""

    damage: Damage
    evaluated: list[Group] = field(default_factory=list)

    def __call__(self, batch: Any, conditions: Sequence[Group], _: Any, metrics: Sequence[Metric], *__: Any) -> Any:
        self.evaluated.extend(conditions)
        baseline = np.arange(len(batch)) / 8
        values = np.array([baseline - self.damage(group) if group else baseline for group in conditions])
        return np.broadcast_to(values, (len(metrics), *values.shape)).copy()


@cache
def offered() -> Registry:
    """The methods of the project."""
    return registry()


def build(stage: str, name: str, **parameters: Any) -> Any:
    """A method with these parameters."""
    return offered().get(stage, name).build(parameters)


def trial_of(units: UnitSpace, damage: Damage, n: int = 8, **changes: Any) -> Trial:
    """A trial of ``n`` examples in a world; by default with groups matched by site."""
    usual = {"controls": build("controls", "layer_matched"), "metrics": [Score()], "intervention": Nothing()}
    return Trial(**{"units": units, "evaluate": World(damage), "batch": examples.batch(n), **usual, **changes})


def results_of(trial: Trial, *candidates: Group) -> tuple[CandidateResult, ...]:
    """The results of the candidates of one cell."""
    return close(cases_of(candidates, trial), trial, lambda _: None)


# -- what groups do ----------------------------------------------------------------------------------------------------


def chain(*links: int, strength: float = 1.0) -> Damage:
    """Any link does all the damage."""
    return lambda group: strength * bool(set(links) & set(group))


def additive(weights: Sequence[float] | np.ndarray) -> Damage:
    """Every unit does its own damage."""
    return lambda group: float(sum(weights[unit] for unit in group))


def backups(*members: int, strength: float = 1.0) -> Damage:
    """Damage only if all of them are ablated."""
    return lambda group: strength * (set(members) <= set(group))


def chain_with_backup(link: int, *members: int, strength: float = 1.0) -> Damage:
    """A link, and units that back each other up in its second link."""
    return lambda group: strength * (link in group or set(members) <= set(group))


def background(units: int, seed: int, kind: str = "normal", pairs: float = 0.3) -> Damage:
    """Random damage of every unit and, ``pairs`` as large, of every pair.

    ``kind``: ``normal``; ``lognormal``, of s = 2 and either sign; ``one_layer``: the first half of the units ten times.
    """
    rng = np.random.default_rng(seed)
    weights = rng.standard_normal(units)
    if kind == "lognormal":
        weights = np.sign(weights) * np.exp(2 * rng.standard_normal(units))
    scale = np.where((np.arange(units) < units // 2) & (kind == "one_layer"), 10.0, 1.0)
    both = np.triu(rng.standard_normal((units, units)), 1) * pairs * np.abs(weights).mean()

    def damage(group: Group) -> float:
        inside = np.array(group)
        return float((scale * weights)[inside].sum() + both[np.ix_(inside, inside)].sum())

    return damage


def sum_of(*parts: Damage) -> Damage:
    """Independent damages."""
    return lambda group: sum(part(group) for part in parts)
