"""What each stage of a cell takes and gives: the protocols that plugins fulfil.

A plugin is a frozen dataclass: its fields are its parameters, calling it does its work. The names of the call's
arguments say what it asks for (:data:`INPUTS`), as hooks do in pluggy: a partitioner may ask for the affinity, or for
scores, or for the labels. A cell is made of the stages that its candidates depend on; what nobody asks for is not
computed. Whatever is random in a plugin is drawn from a field called ``seed``. One whose result depends on more than
its fields (a file, a folder of weights) says so with a method ``fingerprint() -> str``, so that a stale result is never
served.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass, replace
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from harness.data.batch import Batch, Vocabulary
from harness.data.grouping import Affinity, Candidate, Labels, Partition
from harness.data.recording import Activity, Reader, Recording, Source, Spins
from harness.data.units import UnitSpace

if TYPE_CHECKING:
    import torch

    from harness.data.prediction import Prediction

Tick = Callable[[int], None]
"""Called with the share of work just done, in examples x conditions."""


@runtime_checkable
class Subject(Vocabulary, Protocol):
    """A model at work: it can record a batch, and evaluate it with groups of units ablated.

    One without a model (``vocab_size`` 0) is only units: they can be grouped, by what lies in files, and never tested.
    """

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
        reference: Batch | None = None,
    ) -> Float[np.ndarray, "metrics conditions examples"]:
        """Every metric on every example, with each condition's units ablated; ``()`` is the baseline model.

        ``reference`` are other examples, for interventions that put a mean over those in a unit's place.
        """


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
    """Labels from a recording, or from elsewhere; a method that looks at the model is a :class:`Reader` as well."""

    name: ClassVar[str]
    __call__: Callable[..., Labels]


@runtime_checkable
class Signal(Reader, Protocol):
    """Recording -> activity. ``read`` reduces rows as they stream; the call joins them: ``readings["signal"]``."""

    name: ClassVar[str]
    source: ClassVar[Source]

    def __call__(self, recording: Recording) -> Activity: ...


@runtime_checkable
class Transform(Protocol):
    """Activity -> activity of the same shape; several are applied one after the other."""

    name: ClassVar[str]
    __call__: Callable[..., Activity]


@runtime_checkable
class Binarizer(Protocol):
    """Activity -> spins (or the activity itself)."""

    name: ClassVar[str]

    def __call__(self, activity: Activity) -> Spins | Activity: ...


@runtime_checkable
class AffinityMethod(Protocol):
    """Spins, or whatever the binarizer gave, or nothing but the units -> affinity."""

    name: ClassVar[str]
    __call__: Callable[..., Affinity]


@runtime_checkable
class Partitioner(Protocol):
    """Affinity (or scores, spins, labels) -> one label per unit, for one or several numbers of groups."""

    name: ClassVar[str]
    __call__: Callable[..., list[Partition]]


@runtime_checkable
class Chooser(Protocol):
    """Partitions -> how good each is, None where it cannot say; candidates are taken from the best."""

    name: ClassVar[str]
    __call__: Callable[..., Sequence[float | None]]


@runtime_checkable
class Selector(Protocol):
    """The chosen partition -> the candidate groups to be tested, best first."""

    name: ClassVar[str]
    __call__: Callable[..., Sequence[Candidate]]


@runtime_checkable
class Intervention(Protocol):
    """What an ablated unit writes instead of its output [rows, positions, heads, head_dim] (or broadcastable to it).

    It may ask for ``output``; for ``donor``, the same units' output in the run of ``donors(batch)``, a batch of as many
    examples with the same queries, which it then has to define; for ``mean``, the units' mean output
    [1 or positions, heads, head_dim]: over the tested batch, or, where its field ``over`` is ``reference``, over the
    examples proposed on; per position where its field ``per`` is ``position``. Where its field ``positions`` is
    ``query``, units are ablated at the query position only. Each position is replaced by itself: where no other
    matters, it is shown the query's alone.
    """

    name: ClassVar[str]

    def __call__(self, *args: Any, **inputs: Any) -> torch.Tensor: ...


@dataclass(frozen=True)
class ControlSets:
    """Random groups that a candidate is held against, in random order; all distinct, none shares a unit with it.

    ``shortfall`` names what had too few units left, a layer by its number or a class by its name, with how many were
    missing (they were taken elsewhere). ``inflation``: how many times wider than theirs a random group's damage spreads,
    where they are drawn from what one group leaves of a small pool (:func:`harness.data.sampling.inflation`).
    """

    groups: tuple[tuple[int, ...], ...]
    shortfall: Mapping[int, int] | Mapping[str, int] = field(default_factory=dict)
    inflation: float = 1.0


@runtime_checkable
class Controls(Protocol):
    """Candidate (and what units are like) -> matched random groups."""

    name: ClassVar[str]

    def __call__(self, *args: Any, **inputs: Any) -> ControlSets: ...


@runtime_checkable
class Metric(Protocol):
    """What ablation may damage. ``damage`` is the sign of a change for the worse."""

    name: ClassVar[str]
    damage: ClassVar[Literal[1, -1]]

    def __call__(self, prediction: Prediction) -> torch.Tensor: ...


@dataclass(frozen=True)
class Stage:
    """One place in a cell where methods can be swapped: its name is its config group and its first word on the CLI.

    ``asks``: what its methods may ask for. ``many``: several are chosen, as a list (``metric=[loss,accuracy]``).
    """

    name: str
    hook: str
    does: str
    asks: tuple[str, ...] = ()
    many: bool = False


_KNOWING = ("recording", "units", "truth")
_REPLACING = ("output", "donor", "mean")
_MATCHING = ("candidate", "units", "labels", "strength")
_PROPOSED = ("affinity", "scores", "labels", "units", "spins", "observations", "activity")
STAGES: Mapping[str, Stage] = {
    stage.name: stage
    for stage in (
        Stage("subject", "harness_subjects", "a model that can be recorded and ablated"),
        Stage("batch", "harness_batches", "examples with a query position, a target and anchors", ("vocabulary",)),
        Stage("labels", "harness_labels", "what is known about units without clustering them", _KNOWING),
        Stage("signal", "harness_signals", "recording -> one number per observation and unit", ("recording",)),
        Stage(
            "transform", "harness_transforms", "activity -> activity, one after the other", ("activity", "batch"), True
        ),
        Stage("binarizer", "harness_binarizers", "activity -> spins", ("activity",)),
        Stage(
            "affinity", "harness_affinities", "spins -> how alike two units behave", ("spins", "observations", "units")
        ),
        Stage("partitioner", "harness_partitioners", "affinity -> groups", _PROPOSED),
        Stage("chooser", "harness_choosers", "partitions -> the one to take groups from", ("partitions", *_PROPOSED)),
        Stage("selector", "harness_selectors", "groups -> candidates to be tested", ("partition", *_PROPOSED)),
        Stage("intervention", "harness_interventions", "what an ablated unit writes instead", _REPLACING),
        Stage("controls", "harness_controls", "random groups matched to the candidate", _MATCHING),
        Stage("metric", "harness_metrics", "what ablation may damage, and which way it points", ("prediction",), True),
    )
}

INPUTS: Mapping[str, tuple[tuple[str, ...], str]] = {
    "vocabulary": ((), "the subject's tokens: vocab_size, context, encode"),
    "units": ((), "the units of the subject, in order"),
    "truth": ((), "what the subject itself knows of its units, a class each; None for a model nobody planted"),
    "batch": (("batch",), "the examples proposed on"),
    "recording": (("batch",), "what the method's own `read` made of the batch"),
    "activity": (("signal", "transform"), "one number per observation and unit, transformed"),
    "scores": (("signal",), "one number per unit"),
    "spins": (("binarizer",), "activity as -1 / +1"),
    "observations": (("binarizer",), "what the binarizer gave: spins, or activity where it is `none`"),
    "affinity": (("affinity",), "how alike two units behave"),
    "labels": (("labels",), "what is known about units; whoever asks is marked as using labels"),
    "partitions": (("partitioner",), "one label per unit, several times, with their stability"),
    "partition": (("partitioner", "chooser"), "the chosen one"),
    "output": ((), "what heads hand to the output projection [rows, positions, heads, head_dim]"),
    "donor": ((), "what they hand on in the run of the intervention's `donors(batch)`"),
    "mean": ((), "what they hand on, on average [1 or positions, heads, head_dim]"),
    "candidate": ((), "positions of the units to be tested"),
    "strength": ((), "mean norm of what each unit writes to the residual stream [units]"),
    "prediction": ((), "logits at the query, and the target"),
}
"""What a method may ask for by name: the stages that make it, and what it is."""


def inputs_of(method: type) -> tuple[str, ...]:
    """What a method asks for: the names of its call's arguments, but for those with a default."""
    arguments = list(signature(method.__call__).parameters.values())[1:]
    return tuple(a.name for a in arguments if a.default is Parameter.empty and a.kind is not Parameter.VAR_KEYWORD)


def call_with(method: Any, **available: Any) -> Any:
    """A method, called with those of the available inputs that it asks for."""
    return method(**{name: available[name] for name in inputs_of(type(method))})


def reseeded(stage: Any, seed: int) -> Any:
    """The same method with another seed, where it has one."""
    if is_dataclass(stage) and not isinstance(stage, type) and hasattr(stage, "seed"):
        return replace(stage, seed=seed)
    return stage


def only_at_query(intervention: Intervention) -> bool:
    """Whether an intervention ablates units at the query alone."""
    return getattr(intervention, "positions", "all") == "query"


def per_position(intervention: Intervention) -> bool:
    """Whether an intervention asks for a mean of its own at every position."""
    return getattr(intervention, "per", "all") == "position"


def over_reference(intervention: Intervention) -> bool:
    """Whether an intervention's means are over the examples proposed on, not over those tested."""
    return getattr(intervention, "over", "batch") == "reference"


def looks_elsewhere(intervention: Intervention) -> bool:
    """Whether an intervention is shown more than the run itself: its donors' outputs, or a mean."""
    return not {"donor", "mean"}.isdisjoint(inputs_of(type(intervention)))


def upstream(stage: str, methods: Mapping[str, Sequence[type]]) -> set[str]:
    """The stages that the methods of a stage depend on, itself included; ``methods`` are those chosen, by stage."""
    found: set[str] = set()
    waiting = [stage]
    while waiting:
        stage = waiting.pop()
        if stage not in found:
            found.add(stage)
            names = {name for method in methods[stage] for name in inputs_of(method)}
            waiting += [maker for name in names for maker in INPUTS[name][0]]
    return found
