"""The settings of a closure test, and the groups that a candidate is compared with."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from inspect import signature
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from harness.closure.anatomy import ActiveRule, active
from harness.closure.comparison import Comparison, Disjoint, Exact, Statistic, Test
from harness.closure.pool import DRAWN, Pool
from harness.data.batch import Batch
from harness.data.contracts import Controls, Intervention, Metric, Tick
from harness.data.grouping import Labels
from harness.data.profile import Profile
from harness.data.recording import Activity
from harness.data.sampling import Group, from_pools
from harness.data.stages import call_with, inputs_of
from harness.data.units import UnitSpace
from harness.util.errors import HarnessError


@runtime_checkable
class Evaluate(Protocol):
    """Evaluates groups of units: :meth:`harness.data.contracts.Subject.evaluate`, or a function that caches it."""

    def __call__(
        self,
        batch: Batch,
        conditions: Sequence[Group],
        intervention: Intervention,
        metrics: Sequence[Metric],
        tick: Tick,
        reference: Batch | None = None,
    ) -> Float[np.ndarray, "metrics conditions examples"]:
        """Every metric on every example, with each condition's units ablated."""


@dataclass(frozen=True)
class Trial:
    """The settings of a closure test: everything but the candidates.

    ``reference``: other examples, for interventions that take a mean over them. ``contrast``: a batch of another task,
    on which a specific group does no damage. ``activity``: of the units on ``batch``; ``rule`` says when a group counts
    as active. ``scope``: the examples that a group is judged on: ``all``, or those on which this group is ``active``.
    ``test``: ``exact``, or the former test against ``disjoint`` groups; ``statistic``: that of the exact test.
    ``joint``: a group passes only if its units need each other. ``check_task``: it cannot pass where the model does not
    do the task. ``deciding``: which metrics decide: the first listed and those that declare it (``declared``), or
    ``all``. ``stratum``: the one that candidates were proposed on, if any; ``in_stratum``: ``batch`` are its examples,
    and ``outside`` all others that are tested (None: too few).
    ``futility``: testing of a candidate stops early when this many controls do at least as much damage
    (:mod:`harness.closure.stopping`). ``labels``, ``strength`` (mean output norm [units]), ``usage`` (share of examples
    on which each unit is active [units]): given where the controls ask for them.
    """

    units: UnitSpace
    evaluate: Evaluate
    batch: Batch
    intervention: Intervention
    controls: Controls
    metrics: Sequence[Metric]
    alpha: float = 0.05
    ddof: Literal[0, 1] = 1
    seed: int = 0
    futility: int | None = 10
    test: Test = "exact"
    statistic: Statistic = "necessity"
    joint: bool = False
    check_task: bool = False
    reference: Batch | None = None
    contrast: Batch | None = None
    activity: Activity | None = None
    rule: ActiveRule = "any"
    scope: Literal["all", "active"] = "all"
    deciding: Literal["declared", "all"] = "declared"
    stratum: str = ""
    in_stratum: bool = False
    outside: Batch | None = None
    labels: Labels | None = None
    strength: Float[np.ndarray, " units"] | None = None
    usage: Float[np.ndarray, " units"] | None = None
    _pools: dict[Any, Pool] = field(default_factory=dict, init=False, repr=False, compare=False)

    def values(self, batch: Batch, conditions: Sequence[Group], tick: Tick) -> Float[np.ndarray, "metrics _ examples"]:
        """Every metric on every example of a batch, under each condition."""
        return self.evaluate(batch, conditions, self.intervention, self.metrics, tick, self.reference)

    def active(self, group: Group) -> Bool[np.ndarray, " examples"] | None:
        """On which examples a group is active. None where activity was not measured per example."""
        if self.activity is None or len(self.activity.values) != len(self.batch):
            return None
        return active(self.activity.values[:, list(group)], self.rule)

    def in_scope(
        self, group: Group, values: Shaped[np.ndarray, "*rows examples"]
    ) -> Shaped[np.ndarray, "*rows judged"]:
        """The values on the examples that a group is judged on.

        Errors: ``scope=active``, where activity was not measured per example.
        """
        if self.scope == "all":
            return values
        examples = self.active(group)
        if examples is None:
            raise HarnessError(
                "scope=active: this cell has no activity of its units on single examples.",
                "Choose a signal whose observations are examples (signal=max_attention), or scope=all.",
            )
        judged: Shaped[np.ndarray, "*rows judged"] = values[..., examples]
        return judged

    def mean_change(self, group: Group, change: Float[np.ndarray, "*rows examples"]) -> Float[np.ndarray, "*rows"]:
        """The mean change on the examples that a group is judged on; 0 where there are none."""
        judged = self.in_scope(group, change) if group else change
        mean: Float[np.ndarray, "*rows"] = judged.mean(axis=-1) if judged.shape[-1] else np.zeros(change.shape[:-1])
        return mean

    def clusters(self, group: Group) -> Int[np.ndarray, " judged"] | None:
        """The documents of the examples that a group is judged on. None: the batch has none."""
        documents = self.batch.groups.get("document")
        return None if documents is None else self.in_scope(group, np.unique(documents, return_inverse=True)[1])

    def decides(self, m: int) -> bool:
        """Whether the metric in this place takes part in the verdict."""
        return m == 0 or self.deciding == "all" or self.metrics[m].decides

    @property
    def n_deciding(self) -> int:
        """How many metrics take part in the verdict."""
        return sum(self.decides(m) for m in range(len(self.metrics)))

    @cached_property
    def profile(self) -> Profile:
        """The partition of all units within whose cells groups are matched.

        Errors: the controls ask for labels, strength or usage, and the trial has none.
        """
        profile: Profile = call_with(self.controls, **self._matched_by(inputs_of(type(self.controls))))
        return profile

    def comparison(self, candidate: Group, proposed: Collection[Group] = ()) -> Comparison:
        """The groups that a candidate is compared with. ``proposed``: groups that are left out of them.

        Errors: those of :attr:`profile`; more units of a site than can be ablated together.
        """
        if not self.units.allows(candidate):
            raise HarnessError(
                f"{', '.join(self.units.names(candidate))}: these units cannot be ablated together; at most "
                f"{', '.join(f'{most} of {site}' for site, most in self.units.at_most.items())}.",
                "Choose fewer units (selector.max_size=...).",
            )
        if self.test == "disjoint":
            return self._disjoint(candidate)
        pool = self.pool(candidate, extra=len(proposed))
        groups = pool.without({tuple(sorted(candidate)), *proposed}, self.controls.n)
        return Exact(groups, pool.possible, pool.profile, self.units, self.controls.seed, self.statistic)

    def pool(self, candidate: Group, extra: int = 0) -> Pool:
        """The pool of the candidate's profile; where not all groups are listed, with ``extra`` ones to leave out."""
        counts = self.profile.counts(candidate)
        n = (self.controls.n or DRAWN) + 1 + extra
        key = (tuple(counts.items()), n)
        if key not in self._pools:
            self._pools[key] = Pool.of(self.profile, counts, self.units, n, self.controls.seed)
        return self._pools[key]

    def _disjoint(self, candidate: Group) -> Disjoint:
        """Groups that share no unit with the candidate, as the controls draw them."""
        n = self.controls.n or DRAWN
        if self.controls.disjoint is None:
            drawn = from_pools(candidate, self.profile.pools(candidate), self.units, n, self.controls.seed)
        else:
            names = [name for name in signature(self.controls.disjoint).parameters if name not in ("candidate", "n")]
            drawn = self.controls.disjoint(candidate=candidate, n=n, **self._matched_by(names))
        return Disjoint(drawn.groups, len(drawn.groups), {}, drawn.shortfall, drawn.inflation)

    def _matched_by(self, names: Sequence[str]) -> dict[str, Any]:
        available: dict[str, Any] = {
            "units": self.units,
            "labels": self.labels,
            "strength": self.strength,
            "usage": self.usage,
        }
        for name in names:
            if available[name] is None:
                raise HarnessError(
                    f"controls {self.controls.name} need {name} of the units, and this trial has none.",
                    f"Create it with Trial({name}=...), or use controls=layer_matched.",
                )
        return {name: available[name] for name in names}
