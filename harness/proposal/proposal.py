"""From a recording to candidates: each step is computed from earlier steps, when it is first used."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar, overload

import numpy as np
from jaxtyping import Int

from harness.data.batch import Batch
from harness.data.contracts import reseeded
from harness.data.grouping import Affinity, Agreement, Candidate, Labels, Partition, isolation, purity
from harness.data.history import History
from harness.data.recording import Activity, Recording, Scores, Spins
from harness.data.stages import inputs_of
from harness.data.units import UnitSpace
from harness.proposal.cached import cached_call
from harness.proposal.stability import Reruns, overlap, rerun, with_stability
from harness.util.cache import Cache
from harness.util.errors import HarnessError
from harness.util.seeds import rng_for

T = TypeVar("T")

FEWEST_OBSERVATIONS = 3
"""To estimate an affinity from. Of two observations, every correlation is -1, 0 or 1."""


class Step(Generic[T]):
    """A property of a proposal that is computed once and kept in its ``steps``."""

    def __init__(self, compute: Callable[[Any], T]) -> None:
        self.compute, self.name, self.__doc__ = compute, compute.__name__, compute.__doc__

    @overload
    def __get__(self, proposal: None, owner: type) -> Step[T]: ...
    @overload
    def __get__(self, proposal: Proposal, owner: type) -> T: ...
    def __get__(self, proposal: Proposal | None, owner: type) -> Step[T] | T:
        """The step, computed when it is first used."""
        if proposal is None:
            return self
        if self.name not in proposal.steps:
            proposal.steps[self.name] = self.compute(proposal)
        step: T = proposal.steps[self.name]
        return step


class Proposal:
    """The results of a cell's proposing stages, by step. A method requests steps by name.

    ``inputs``: the inputs of the first steps, by name (``batch``, ``recording``, ``history``, ``truth``, ``strata``).
    An input is None or absent if no stage requests it, for example with ``affinity=precomputed``. ``reruns``: how often
    partitions are computed again to measure their stability. Affinities and partitions that are in the ``cache`` are
    read from there.
    ``stratum``: the stratum that the inputs belong to, if examples are divided. ``labels``: given, not computed.
    """

    def __init__(
        self,
        stages: Mapping[str, Any],
        units: UnitSpace,
        inputs: Mapping[str, Any] | None = None,
        reruns: int = 0,
        seed: int = 0,
        cache: Cache | None = None,
        stratum: str = "",
        labels: Labels | None = None,
    ) -> None:
        self.stages, self.units, self.inputs = stages, units, dict(inputs or {})
        self.reruns, self.seed, self.cache = reruns, seed, cache or Cache()
        self.stratum = stratum
        self.steps: dict[str, Any] = {} if labels is None else {"labels": labels}

    @classmethod
    def by_hand(cls, units: UnitSpace, members: tuple[int, ...], stratum: str = "") -> Proposal:
        """A proposal of one candidate, which the user names. No stage is called."""
        proposal = cls({}, units, stratum=stratum)
        proposal.steps["candidates"] = (Candidate(members),)
        return proposal

    def run(self) -> None:
        """Compute every step that a record contains."""
        self.steps |= {"labels": self.labels, "candidates": self.candidates}

    # -- recording -> activity -> spins -> affinity -> partitions -> candidates ----------------------------------------

    @property
    def batch(self) -> Batch:
        """The examples proposed on."""
        batch: Batch = self.inputs["batch"]
        return batch

    @property
    def recording(self) -> Recording:
        """One pass of the batch, for all stages that read the model."""
        recording: Recording = self.inputs["recording"]
        return recording

    @property
    def history(self) -> History:
        """The recordings of the batch at every checkpoint of the subject."""
        history: History = self.inputs["history"]
        return history

    @property
    def truth(self) -> Labels | None:
        """The class of every unit where the subject knows it."""
        return self.inputs.get("truth")

    @property
    def strata(self) -> Int[np.ndarray, " observations"] | None:
        """The stratum of every observation, for an affinity that takes them. Errors: observations are not examples."""
        strata: Int[np.ndarray, " observations"] | None = self.inputs.get("strata")
        if strata is not None and len(strata) != len(self.measured.values):
            raise HarnessError(
                f"signal {self.stages['signal'].name}: its observations are not examples, so that they have no strata.",
                "Choose a signal with one number per example (signal=max_attention), or affinity.covariates=none.",
            )
        return strata

    @Step
    def labels(self) -> Labels:
        """The classes of units that are known without clustering."""
        return self._expect(Labels, "labels", self._call("labels"))

    @Step
    def measured(self) -> Activity:
        """The signal's activity, before any transform."""
        return self._expect(Activity, "signal", self._call("signal"))

    @property
    def scores(self) -> Scores:
        """One number per unit, of the signal as measured."""
        return self.measured.scores

    @Step
    def activity(self) -> Activity:
        """The signal's activity after all transforms."""
        activity = self.measured
        for transform in self.stages["transform"]:
            names = inputs_of(type(transform))
            arguments = {name: activity if name == "activity" else getattr(self, name) for name in names}
            activity = self._expect(Activity, transform.name, transform(**arguments))
        return activity

    @Step
    def observations(self) -> Spins | Activity:
        """The output of the binarizer."""
        observations: Spins | Activity = self._call("binarizer")
        return observations

    @property
    def spins(self) -> Spins:
        """The observations, if they are spins. Errors: the binarizer returns activity."""
        if not isinstance(self.observations, Spins):
            raise HarnessError(
                f"binarizer {self.stages['binarizer'].name} gives activity, and a method of this cell needs spins.",
                "Choose another binarizer (binarizer=median), or an affinity that takes activity (affinity=pearson).",
            )
        return self.observations

    @Step
    def affinity(self) -> Affinity:
        """How similarly two units behave. Errors: too few observations to estimate it from."""
        method = self.stages["affinity"]
        if self._of_observations:
            count = len(self.observations.values)
            if count < FEWEST_OBSERVATIONS:
                where = f"stratum '{self.stratum}' has" if self.stratum else "there are"
                small = ", or leave small strata out (stratifier.smallest=...)" if self.stratum else ""
                raise HarnessError(
                    f"affinity {method.name} needs {FEWEST_OBSERVATIONS} observations; {where} {count} to propose on.",
                    f"Use more examples (batch.n=...){small}.",
                )
        return self._expect(Affinity, "affinity", self._call("affinity"))

    @Step
    def raw_partitions(self) -> tuple[Partition, ...]:
        """The partitions, before their stability is measured. Errors: all observations are the same."""
        if self._of_observations and "affinity" in inputs_of(type(self.stages["partitioner"])):
            self._check_varies(self.measured)
        return tuple(self._expect(Partition, "partitioner", partition) for partition in self._call("partitioner"))

    @Step
    def rerun_partitions(self) -> Reruns:
        """The partitions of every rerun. Reruns start from the steps that ``raw_partitions`` was computed from."""
        observations = len(self.measured.values) if self.has("measured") else None
        return rerun(
            lambda *change: self.again(*change).raw_partitions, self.reruns, len(self.units), observations, self.seed
        )

    @Step
    def partitions(self) -> tuple[Partition, ...]:
        """The partitions, each with its stability."""
        return (
            with_stability(self.raw_partitions, self.rerun_partitions)
            if self.raw_partitions and self.reruns
            else self.raw_partitions
        )

    @property
    def trivial(self) -> bool:
        """Whether no partition separates any units. If so, nothing is proposed."""
        return all(partition.trivial for partition in self.raw_partitions)

    @Step
    def quality(self) -> tuple[float | None, ...]:
        """The chooser's score of each partition. None: it gives no score, or the partition is trivial."""
        if self.trivial:
            return tuple(None for _ in self.raw_partitions)
        scores = self._call("chooser")
        return tuple(
            None if score is None or partition.trivial else float(score)
            for score, partition in zip(scores, self.partitions, strict=True)
        )

    @Step
    def chosen(self) -> int:
        """The index of the best partition. If several are equally good: the one with fewest groups, then the first."""
        scored = [i for i, score in enumerate(self.quality) if score is not None]
        able = scored or [i for i, partition in enumerate(self.partitions) if not partition.trivial] or [0]
        return min(able, key=lambda i: (-(self.quality[i] or 0.0), len(self.partitions[i].groups()), i))

    @property
    def partition(self) -> Partition:
        """The chosen partition."""
        return self.partitions[self.chosen]

    @Step
    def candidates(self) -> tuple[Candidate, ...]:
        """The groups to be tested, each with its purity, isolation and stability.

        Groups that cannot be ablated do not qualify, whatever the selector prefers.
        """
        if self.trivial:
            return ()
        qualified = self.partition.without(self.not_ablatable) if self.not_ablatable else self.partition
        return tuple(self.described(candidate) for candidate in self._call("selector", partition=qualified))

    @property
    def not_ablatable(self) -> list[tuple[int, ...]]:
        """Groups of the chosen partition with more units of a site than can be ablated together."""
        return [group for group in self.partition.groups() if not self.units.allows(group)]

    # -- inspecting and repeating a proposal ---------------------------------------------------------------------------

    def has(self, step: str) -> bool:
        """Whether a step has been computed, because another step or a record needed it."""
        return step in self.steps

    def agreement(self) -> list[Agreement | None]:
        """Every partition's agreement with the labels."""
        return [Agreement.of(partition, self.labels) for partition in self.partitions]

    def again(self, order: np.ndarray, rows: np.ndarray | None, seed: int) -> Proposal:
        """The same proposal with another order of units, another seed and, if given, these observations. Without
        ``rows`` the affinity is reused, with its units in the new order.
        """
        units = self.units.reordered(order)
        truth = self.truth.reordered(order, units) if self.truth else None
        strata = self.inputs.get("strata")
        inputs = {**self.inputs, "truth": truth, "strata": strata if strata is None or rows is None else strata[rows]}
        other = Proposal(_reseeded(self.stages, seed), units, inputs, self.reruns, self.seed, self.cache)
        if self.has("labels"):
            other.steps["labels"] = self.labels.reordered(order, units)
        for name in ("measured", "activity"):
            if self.has(name):
                other.steps[name] = _resampled(self.steps[name], units, order, rows)
        if rows is None and self.has("affinity"):
            other.steps["affinity"] = self.affinity.reordered(order, units)
        return other

    def permuted(self, seed: int) -> Proposal:
        """The same proposal on permuted data: the observations of each unit are permuted separately."""
        rng = rng_for(seed, "permuted observations")
        other = Proposal(self.stages, self.units, self.inputs, 0, self.seed, self.cache)
        other.steps["labels"] = self.labels
        for name in ("measured", "activity"):
            if self.has(name):
                activity: Activity = self.steps[name]
                other.steps[name] = dataclasses.replace(activity, values=rng.permuted(activity.values, axis=0))
        return other

    def _call(self, stage: str, **instead: Any) -> Any:
        """Call a stage's method with the steps that it requests, or with those given ``instead``."""
        method = self.stages[stage]
        arguments = {
            name: instead[name] if name in instead else getattr(self, name) for name in inputs_of(type(method))
        }
        if stage == "affinity" and getattr(method, "given_strata", False):
            arguments["strata"] = self.strata
        return cached_call(stage, method, arguments, self.units, self.cache)

    @property
    def _of_observations(self) -> bool:
        """Whether the affinity is estimated from observations."""
        return bool({"spins", "observations"} & set(inputs_of(type(self.stages["affinity"]))))

    def _check_varies(self, activity: Activity) -> None:
        """Refuse activity that is the same on all observations, such as that of units that no example needs."""
        if len(activity.values) >= FEWEST_OBSERVATIONS and not np.ptp(activity.values, axis=0).any():
            no_unit = "differs between any two" if activity.values.any() else "is active on any"
            raise HarnessError(
                f"signal {self.stages['signal'].name}: no unit {no_unit} of the {len(activity.values)} observations, "
                "so no two units are alike.",
                "Use other or more examples (batch=..., batch.n=...), or another signal.",
            )

    def described(self, candidate: Candidate) -> Candidate:
        """A candidate with its purity, isolation and stability, where it does not have them yet."""
        members = candidate.members
        share = candidate.purity if candidate.purity is not None else purity(members, self.labels)
        ratio = candidate.isolation
        if ratio is None and self.has("affinity"):
            ratio = isolation(members, self.affinity.matrix)
        stability = overlap(members, self.rerun_partitions, self.chosen) if self.reruns else None
        return dataclasses.replace(candidate, purity=share, isolation=ratio, stability=stability)

    def _expect(self, kind: type[T], source: str, value: Any) -> T:
        """The value. Errors: a method that returns another kind of value, or other units."""
        if not isinstance(value, kind):
            raise TypeError(f"{source} returned {type(value).__name__}, not {kind.__name__}")
        if getattr(value, "units", self.units) != self.units:  # a partition carries no units
            raise TypeError(f"{source} returned units that are not those it was given")
        return value


def _reseeded(stages: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """The methods with another seed. A stage with several methods keeps them unchanged."""
    return {name: method if isinstance(method, tuple) else reseeded(method, seed) for name, method in stages.items()}


def _resampled(activity: Activity, units: UnitSpace, order: np.ndarray, rows: np.ndarray | None) -> Activity:
    rows = np.arange(len(activity.values)) if rows is None else rows
    own_scores, position = activity.own_scores, activity.position
    return Activity(
        activity.values[np.ix_(rows, order)],
        units,
        None if own_scores is None else own_scores[order],
        None if position is None else position[rows],
    )
