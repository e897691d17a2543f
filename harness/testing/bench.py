"""A loaded subject under test: examples that it reads, what its units hand on, and evaluations under probes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property, lru_cache
from itertools import combinations
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from harness.data.batch import Batch, Counterfactual, Vocabulary, Width
from harness.data.contracts import Intervention, Metric, Subject, SubjectMethod, no_tick
from harness.data.recording import Recording, Source
from harness.data.sampling import Group
from harness.data.tokens import Tokens
from harness.data.vectors import Vectors
from harness.testing.checks import NotChecked, require
from harness.testing.probes import Keep, Look, Output, Push
from harness.util.errors import HarnessError

OUTPUTS = ("activation", "head_output")
"""The sources that are what a unit hands on: what interventions get as ``output``."""
POSITIONS = 9
EXAMPLES = 6
SIZES = tuple(10.0**power for power in range(-2, 5))
LOOKS: tuple[Metric, ...] = (Look(0), Look(1))


@dataclasses.dataclass(frozen=True, eq=False)
class InMemory:
    """A subject that is loaded already, in the place of its plugin."""

    subject: Subject

    def __call__(self) -> Subject:
        return self.subject

    def checkpoints(self) -> Mapping[int, SubjectMethod]:
        """None: it is one model in memory."""
        return {}


@lru_cache(maxsize=1)
def loaded(plugin: Any) -> Any:
    """The subject. It is loaded once for all checks."""
    try:
        return plugin()
    except HarnessError as error:
        raise NotChecked(f"it does not load without parameters: {error.what}") from error


@lru_cache(maxsize=1)
def bench(plugin: Any) -> Bench:
    """The subject on its bench."""
    return Bench(loaded(plugin))


class Bench:
    """A subject with examples that it reads. Results are remembered, so that checks share them."""

    def __init__(self, subject: Subject) -> None:
        if subject.reads is None:
            raise NotChecked("it has no model")
        self.subject = subject
        self.batch = examples_for(subject, seed=0)
        self.reference = examples_for(subject, seed=1, n=EXAMPLES + 2)

    # -- recording ---------------------------------------------------------------------------------------------------

    def record(self, batch: Batch, source: Source) -> tuple[Keep, Recording]:
        """All rows of a source, and the joined readings."""
        keep = Keep(source)
        return keep, self.subject.record(batch, {"signal": keep}, no_tick)

    def handed_on(self, batch: Batch, unit: int) -> Float[np.ndarray, "examples width"]:
        """What a unit hands on at the query of every example, as it is recorded."""
        source = next((name for name in OUTPUTS if name in self.subject.sources), None)
        if source is None:
            raise NotChecked("it records no `activation`, so what its units hand on cannot be compared")
        if batch.digest not in self._kept:
            self._kept[batch.digest] = self.record(batch, source)[0]
        site = self.subject.units.units[unit].site
        place = self.subject.units.at_sites([site]).index(unit)
        values: Float[np.ndarray, "examples width"] = self._kept[batch.digest].values_at(site)[:, place]
        return values

    def handed_on_everywhere(
        self, batch: Batch, unit: int
    ) -> tuple[Float[np.ndarray, "places width"], Int[np.ndarray, " places"]]:
        """What a unit hands on at every position up to the query of all examples, and these positions."""
        prefixes = batch if self.one_place else prefixes_of(batch)
        return self.handed_on(prefixes, unit), prefixes.query

    @cached_property
    def _kept(self) -> dict[str, Keep]:
        return {}

    # -- evaluating --------------------------------------------------------------------------------------------------

    def evaluate(
        self,
        conditions: Sequence[Group],
        intervention: Intervention,
        batch: Batch | None = None,
        reference: Batch | None = None,
        metrics: Sequence[Metric] = LOOKS,
    ) -> Float[np.ndarray, "conditions metrics examples"]:
        """Every metric under every condition."""
        batch = self.batch if batch is None else batch
        values = self.subject.evaluate(batch, conditions, intervention, metrics, no_tick, reference)
        shape = (len(metrics), len(conditions), len(batch))
        require(np.shape(values) == shape, f"shape {np.shape(values)}, not {shape} [metrics, conditions, examples]")
        by_condition: Float[np.ndarray, "conditions metrics examples"] = np.moveaxis(np.asarray(values), 0, 1)
        return by_condition

    @cached_property
    def baseline(self) -> Float[np.ndarray, "metrics examples"]:
        """The values without ablation."""
        values: Float[np.ndarray, "metrics examples"] = self.evaluate([()], Output())[0]
        return values

    @cached_property
    def scale(self) -> float:
        """The size of the values."""
        return float(np.abs(self.baseline).max()) or 1.0

    @cached_property
    def tolerance(self) -> float:
        """The largest difference between equal results: batches of another size differ in the last digits."""
        return self.scale * (1e-4 if self.precise else 0.05)

    @cached_property
    def precise(self) -> bool:
        """Whether outputs have at least 32 bits."""
        return self._probe.dtype.itemsize >= 4

    def same(self, values: Float[np.ndarray, "*shape"], others: Float[np.ndarray, "*broadcast"]) -> bool:
        """Whether all values are equal, up to the last digits."""
        return bool(np.abs(values - others).max() <= self.tolerance)

    def changed(self, values: Float[np.ndarray, "*more metrics examples"]) -> Bool[np.ndarray, "*more"]:
        """Whether values differ from the baseline."""
        differences = np.abs(values - self.baseline).max(axis=(-2, -1))
        changed: Bool[np.ndarray, "*more"] = np.asarray(differences > self.tolerance)
        return changed

    # -- units -------------------------------------------------------------------------------------------------------

    @cached_property
    def candidates(self) -> list[int]:
        """A few units of the first, middle and last sites that may be ablated alone; two stand side by side.

        And a few of a known circuit: where most units belong to other circuits, those of the sites may have no effect.
        """
        units = self.subject.units
        sites = dict.fromkeys([units.sites[0], units.sites[len(units.sites) // 2], units.sites[-1]])
        at = [units.at_sites([site]) for site in sites]
        found = [*at[0][:2], *(place for members in at for place in (members[0], members[-1]))]
        for circuit in (self.subject.about.get("circuits") or {}).values():
            found += units.find(circuit)[:3]
        return [unit for unit in dict.fromkeys(found) if units.allows([unit])]

    @cached_property
    def sizes(self) -> dict[int, float]:
        """By unit: what has to be added to its output to change the prediction clearly, and not beyond measure.

        Errors: no unit has any effect.
        """
        if "output" not in self.subject.gives:
            raise NotChecked("it does not give `output`, so no probe can be used")
        found: dict[int, float] = {}
        for size in SIZES:
            values = self.evaluate([(unit,) for unit in self.candidates], Push(size))
            for unit, effect in zip(self.candidates, np.abs(values - self.baseline).max(axis=(1, 2)), strict=True):
                if effect >= 0.1 * self.scale:
                    found.setdefault(unit, size)
        require(
            found,
            "adding any number to what a unit hands on changes nothing: replace the outputs of ablated units by what "
            "the intervention returns",
        )
        return found

    @property
    def units(self) -> list[int]:
        """The candidates that have an effect."""
        return list(self.sizes)

    @property
    def few(self) -> list[int]:
        """One unit of each of their sites."""
        return list({self.subject.units.units[unit].site: unit for unit in self.units}.values())

    @cached_property
    def pair(self) -> Group:
        """Two units that can be ablated together, if there are two; of one site, if one has two."""
        site_of, allows = self.subject.units.site_of, self.subject.units.allows
        pairs = [pair for pair in combinations(self.units, 2) if allows(pair)]
        return min(pairs, key=lambda pair: site_of[pair[0]] != site_of[pair[1]], default=(self.units[0],))

    @cached_property
    def one_place(self) -> bool:
        """Whether every unit hands on one output per example, as in a model of vectors."""
        return all(shapes["output"][1] == 1 for shapes in self._probe.shapes if len(shapes["output"]) == 4)

    @cached_property
    def _probe(self) -> Output:
        probe = Output()
        self.evaluate([(unit,) for unit in self.candidates], probe)
        return probe

    def name(self, unit: int) -> str:
        """The label of a unit."""
        return self.subject.units.labels[unit]


def examples_for(subject: Subject, seed: int, n: int = EXAMPLES) -> Batch:
    """A few random examples that a subject reads, with counterfactuals; the queries of sequences differ."""
    rng = np.random.default_rng(seed)
    if isinstance(subject.reads, Width):
        inputs = rng.normal(size=(n, subject.reads.inputs)).astype(np.float32)
        targets = rng.integers(0, subject.reads.outputs, (2, n))
        return Vectors("contract", inputs, targets[0], "class", counterfactual=Counterfactual(-inputs, targets[1]))
    assert isinstance(subject.reads, Vocabulary)
    size, positions = min(subject.reads.vocab_size, 1000), min(subject.reads.context, POSITIONS)
    tokens = rng.integers(0, size, (2, n, positions))
    query = np.maximum(positions - 1 - np.arange(n) % 3, 0)
    targets = rng.integers(0, size, (2, n))
    counterfactual = Counterfactual(tokens[1], targets[1])
    return Tokens("contract", tokens[0], query, targets[0], {}, "random", counterfactual=counterfactual)


def prefixes_of(batch: Batch) -> Batch:
    """For every position up to the query of every example, an example whose query it is."""
    if not isinstance(batch, Tokens):
        return batch
    example, position = np.nonzero(np.arange(batch.tokens.shape[1]) <= batch.query[:, None])
    return dataclasses.replace(batch.take(example), query=position, anchors={})


def named(labels: Iterable[str]) -> str:
    """The first few of some labels."""
    labels = list(labels)
    return ", ".join(labels[:5]) + (" ..." if len(labels) > 5 else "")
