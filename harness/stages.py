"""What each stage of a cell takes and gives: the protocols that plugins fulfil.

A plugin is a frozen dataclass: its fields are its parameters, calling it does its work. Whatever is random in it is
drawn from a field called ``seed``. A plugin whose result depends on more than its fields (a file, a folder of weights)
says so with a method ``fingerprint() -> str``, so that a stale result is never served.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from harness.batch import Batch, Vocabulary
from harness.groups import Affinity, Candidate, Labels, Partition
from harness.recording import Activity, Reader, Recording, Source, Spins
from harness.units import UnitSpace

if TYPE_CHECKING:
    import torch

    from harness.engine.prediction import Prediction

Tick = Callable[[int], None]
"""Called with the share of work just done, in examples x conditions."""


@runtime_checkable
class Subject(Vocabulary, Protocol):
    """A model at work: it can record a batch, and evaluate it with groups of units ablated."""

    label: str
    units: UnitSpace
    about: Mapping[str, Any]
    """What is to be known of it in a record: architecture, dtype, device, digest of the weights, ..."""

    def record(self, batch: Batch, readers: Mapping[str, Reader], tick: Tick) -> Recording:
        """Run the batch once and let every reader reduce what it sees."""

    def evaluate(
        self,
        batch: Batch,
        conditions: Sequence[tuple[int, ...]],
        intervention: Intervention,
        metrics: Sequence[Metric],
        tick: Tick,
    ) -> Float[np.ndarray, "metrics conditions examples"]:
        """Every metric on every example, with each condition's units ablated; ``()`` is the untouched model."""


@runtime_checkable
class SubjectMethod(Protocol):
    """Parameters of a subject; calling it loads the model."""

    name: ClassVar[str]

    def __call__(self) -> Subject: ...


@runtime_checkable
class BatchMethod(Protocol):
    """Parameters of a batch; calling it writes the examples in the subject's tokens."""

    name: ClassVar[str]

    def __call__(self, vocabulary: Vocabulary) -> Batch: ...


@runtime_checkable
class LabelMethod(Protocol):
    """Labels from a recording; a method that looks at the model is a :class:`Reader` as well."""

    name: ClassVar[str]

    def __call__(self, recording: Recording) -> Labels: ...


@runtime_checkable
class Signal(Reader, Protocol):
    """Recording -> activity. ``read`` reduces rows as they stream; the call joins them: ``readings["signal"]``."""

    name: ClassVar[str]
    source: ClassVar[Source]

    def __call__(self, recording: Recording) -> Activity: ...


@runtime_checkable
class Binarizer(Protocol):
    """Activity -> spins."""

    name: ClassVar[str]

    def __call__(self, activity: Activity) -> Spins | Activity: ...


@runtime_checkable
class AffinityMethod(Protocol):
    """Spins (or activity) -> affinity."""

    name: ClassVar[str]

    def __call__(self, spins: Spins) -> Affinity: ...


@runtime_checkable
class Partitioner(Protocol):
    """Affinity -> one label per unit, for one or several numbers of groups."""

    name: ClassVar[str]

    def __call__(self, affinity: Affinity) -> list[Partition]: ...


@dataclass(frozen=True)
class Selection:
    """The candidates, best first, and the number of groups they were taken from (None: from several)."""

    candidates: tuple[Candidate, ...]
    chosen_k: int | None


@runtime_checkable
class Selector(Protocol):
    """Partitions -> the candidate group(s) to be tested."""

    name: ClassVar[str]

    def __call__(self, partitions: Sequence[Partition], affinity: Affinity, labels: Labels) -> Selection: ...


@runtime_checkable
class Intervention(Protocol):
    """What an ablated unit writes instead of its output [rows, positions, heads, head_dim] (or broadcastable to it)."""

    name: ClassVar[str]

    def __call__(self, output: torch.Tensor) -> torch.Tensor: ...


@dataclass(frozen=True)
class ControlSets:
    """Random groups that a candidate is held against; all distinct, none shares a unit with the candidate.

    ``shortfall`` names layers that had too few units left, with how many were missing (they were taken elsewhere).
    """

    groups: tuple[tuple[int, ...], ...]
    shortfall: Mapping[int, int] = field(default_factory=dict)


@runtime_checkable
class Controls(Protocol):
    """Candidate -> matched random groups."""

    name: ClassVar[str]

    def __call__(self, candidate: tuple[int, ...], units: UnitSpace) -> ControlSets: ...


@runtime_checkable
class Metric(Protocol):
    """What ablation may damage. ``damage`` is the sign of a change for the worse."""

    name: ClassVar[str]
    damage: ClassVar[Literal[1, -1]]

    def __call__(self, prediction: Prediction) -> torch.Tensor: ...


@dataclass(frozen=True)
class Stage:
    """One place in a cell where methods can be swapped: its name is its config group and its first word on the CLI."""

    name: str
    hook: str
    does: str


STAGES: Mapping[str, Stage] = {
    stage.name: stage
    for stage in (
        Stage("subject", "harness_subjects", "a model that can be recorded and ablated"),
        Stage("batch", "harness_batches", "examples with a query position, a target and anchors"),
        Stage("labels", "harness_labels", "what is known about units without clustering them"),
        Stage("signal", "harness_signals", "recording -> one number per observation and unit"),
        Stage("binarizer", "harness_binarizers", "activity -> spins"),
        Stage("affinity", "harness_affinities", "spins -> how alike two units behave"),
        Stage("partitioner", "harness_partitioners", "affinity -> groups"),
        Stage("selector", "harness_selectors", "groups -> candidates to be tested"),
        Stage("intervention", "harness_interventions", "what an ablated unit writes instead"),
        Stage("controls", "harness_controls", "random groups matched to the candidate"),
        Stage("metric", "harness_metrics", "what ablation may damage, and which way damage points"),
    )
}
