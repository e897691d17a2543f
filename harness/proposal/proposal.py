"""From a recording to candidates: each step made from those before it, and only when something asks for it."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, TypeVar

import numpy as np

from harness.data.batch import Batch
from harness.data.grouping import Affinity, Agreement, Candidate, Labels, Partition, isolation, purity
from harness.data.recording import Activity, Recording, Scores, Spins
from harness.data.stages import inputs_of, reseeded
from harness.data.units import UnitSpace
from harness.proposal.cached import made
from harness.proposal.stability import Rerun, overlap, rerun_partitions, with_stability
from harness.util.cache import Cache
from harness.util.errors import HarnessError
from harness.util.seeds import rng_for

T = TypeVar("T")


class Proposal:
    """What the proposing stages of a cell make; each property is what methods may ask for by that name.

    ``batch`` and ``record`` are called when first needed: a method that asks for neither (``random``, ``precomputed``)
    needs no model at work. Affinities and partitions are taken from the ``cache`` where they were made before.
    """

    def __init__(
        self,
        stages: Mapping[str, Any],
        units: UnitSpace,
        batch: Callable[[], Batch],
        record: Callable[[Batch], Recording],
        reruns: int = 0,
        seed: int = 0,
        truth: Labels | None = None,
        cache: Cache | None = None,
    ) -> None:
        self.stages, self.units, self.reruns, self.seed, self.truth = stages, units, reruns, seed, truth
        self._batch, self._record, self._cache = batch, record, cache or Cache()

    # -- recording -> activity -> spins -> affinity -> partitions -> candidates ----------------------------------------

    @cached_property
    def batch(self) -> Batch:
        """The examples proposed on."""
        return self._batch()

    @cached_property
    def recording(self) -> Recording:
        """One pass of the batch, for all stages that read the model."""
        return self._record(self.batch)

    @cached_property
    def labels(self) -> Labels:
        """What is known about units without clustering them."""
        return self._expect(Labels, "labels", self.call("labels"))

    @cached_property
    def measured(self) -> Activity:
        """The signal's activity, before any transform."""
        return self._expect(Activity, "signal", self.call("signal"))

    @cached_property
    def scores(self) -> Scores:
        """One number per unit, of the signal as measured."""
        return self.measured.scores

    @cached_property
    def activity(self) -> Activity:
        """The signal's activity after all transforms."""
        activity = self.measured
        for transform in self.stages["transform"]:
            given = {
                name: activity if name == "activity" else getattr(self, name) for name in inputs_of(type(transform))
            }
            activity = self._expect(Activity, transform.name, transform(**given))
        return activity

    @cached_property
    def observations(self) -> Spins | Activity:
        """What the binarizer made of the activity."""
        made: Spins | Activity = self.call("binarizer")
        return made

    @cached_property
    def spins(self) -> Spins:
        """The observations, where they are spins. Errors: the binarizer gives none."""
        if not isinstance(self.observations, Spins):
            raise HarnessError(
                f"binarizer {self.stages['binarizer'].name} gives activity, and a method of this cell needs spins.",
                "Choose another binarizer (binarizer=median), or an affinity that takes activity (affinity=pearson).",
            )
        return self.observations

    @cached_property
    def affinity(self) -> Affinity:
        """How alike two units behave."""
        return self._expect(Affinity, "affinity", self.call("affinity"))

    @cached_property
    def partitions(self) -> tuple[Partition, ...]:
        """What the partitioner found, and how stable it is."""
        return with_stability(self)

    @cached_property
    def reruns_found(self) -> tuple[list[Rerun], list[Rerun]]:
        """What reruns found: from other orders and seeds, and on resamples as well."""
        return rerun_partitions(self)

    @cached_property
    def found(self) -> tuple[Partition, ...]:
        """What the partitioner found."""
        return tuple(self._expect(Partition, "partitioner", partition) for partition in self.call("partitioner"))

    @property
    def says_nothing(self) -> bool:
        """Whether no partition tells any units apart: then nothing is proposed."""
        return all(partition.trivial for partition in self.found)

    @cached_property
    def quality(self) -> tuple[float | None, ...]:
        """How good the chooser finds each partition; None where it cannot say, or the partition says nothing."""
        if self.says_nothing:
            return tuple(None for _ in self.found)
        scores = self.call("chooser")
        return tuple(
            None if score is None or partition.trivial else float(score)
            for score, partition in zip(scores, self.partitions, strict=True)
        )

    @cached_property
    def chosen(self) -> int:
        """Which partition candidates are taken from: the best; of equals the one of fewest groups, then the first."""
        able = [i for i, score in enumerate(self.quality) if score is not None]
        able = able or [i for i, partition in enumerate(self.partitions) if not partition.trivial] or [0]
        return min(able, key=lambda i: (-(self.quality[i] or 0.0), len(self.partitions[i].groups()), i))

    @property
    def partition(self) -> Partition:
        """The chosen partition."""
        return self.partitions[self.chosen]

    @cached_property
    def candidates(self) -> tuple[Candidate, ...]:
        """What is put to the test, with what is known about it."""
        if self.says_nothing:
            return ()
        return tuple(self._described(candidate) for candidate in self.call("selector"))

    # -- how it is done ------------------------------------------------------------------------------------------------

    def call(self, stage: str) -> Any:
        """A stage's method, given what it asks for."""
        method = self.stages[stage]
        given = {name: getattr(self, name) for name in inputs_of(type(method))}
        return made(stage, method, given, self.units, self._cache)

    def has(self, name: str) -> bool:
        """Whether a step was made, because something asked for it."""
        return name in vars(self)

    def agreement(self) -> list[Agreement | None]:
        """Every partition held against the labels."""
        return [Agreement.of(partition, self.labels) for partition in self.partitions]

    def again(self, order: np.ndarray, rows: np.ndarray | None, seed: int) -> Proposal:
        """The same proposal with units in another order, another seed and, where given, these observations.

        Without ``rows`` the affinity is the same one, its units in the new order.
        """
        units = UnitSpace(tuple(self.units.units[i] for i in order))
        kept: dict[str, Any] = {
            "units": units,
            "stages": {name: reseeded(stage, seed) for name, stage in self.stages.items()},
        }
        if self.has("labels"):
            known = tuple(self.labels.classes[i] for i in order)
            kept["labels"] = Labels(known, units, {c: s[order] for c, s in self.labels.selectivity.items()})
        for name in ("measured", "activity"):
            if self.has(name):
                kept[name] = _resampled(getattr(self, name), units, order, rows)
        if rows is None and self.has("affinity"):
            kept["affinity"] = self.affinity.reordered(order, units)
        return self._with(kept)

    def permuted(self, seed: int) -> Proposal:
        """The same proposal where nothing is to be found: each unit's observations in an order of their own."""
        rng = rng_for(seed, "permuted observations")
        kept: dict[str, Any] = {"reruns": 0, "labels": self.labels}
        for name in ("measured", "activity"):
            if self.has(name):
                given: Activity = getattr(self, name)
                kept[name] = dataclasses.replace(given, values=rng.permuted(given.values, axis=0))
        return self._with(kept)

    def _with(self, steps: Mapping[str, Any]) -> Proposal:
        """A proposal that has made these steps and no others."""
        other = copy.copy(self)
        other.__dict__ = {k: v for k, v in vars(self).items() if not isinstance(vars(Proposal).get(k), cached_property)}
        other.__dict__ |= steps
        return other

    def _described(self, candidate: Candidate) -> Candidate:
        members = candidate.members
        known = candidate.purity if candidate.purity is not None else purity(members, self.labels)
        apart = candidate.isolation
        if apart is None and self.has("affinity"):
            apart = isolation(members, self.affinity.matrix)
        seeds, resamples = self.reruns_found if self.reruns else ([], [])
        again = overlap(members, resamples or seeds, self.chosen)
        return dataclasses.replace(candidate, purity=known, isolation=apart, stability=again)

    def _expect(self, kind: type[T], who: str, made: Any) -> T:
        """Errors: a stranger's plugin that returns something else."""
        if not isinstance(made, kind):
            raise TypeError(f"{who} returned {type(made).__name__}, not {kind.__name__}")
        if getattr(made, "units", self.units) != self.units:
            raise TypeError(f"{who} returned units that are not those it was given")
        return made


def _resampled(activity: Activity, units: UnitSpace, order: np.ndarray, rows: np.ndarray | None) -> Activity:
    rows = np.arange(len(activity.values)) if rows is None else rows
    own, position = activity.own_scores, activity.position
    return Activity(
        activity.values[np.ix_(rows, order)],
        units,
        None if own is None else own[order],
        None if position is None else position[rows],
    )
