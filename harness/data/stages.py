"""The contract of each stage: what its methods take, what they give, and what they may declare.

A method is a frozen dataclass. Its fields are its parameters, and calling it does its work. The names of the call's
arguments say what it asks for (:data:`INPUTS`), as hooks do in pluggy: a partitioner may ask for the affinity, for
scores, or for labels. A cell computes only the stages that its candidates depend on.

A contract gives a default for everything that a method may leave out. Built-in methods inherit from their contract; a
method that does not is given the same defaults when it is registered (:func:`with_defaults`).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from harness.data.batch import Batch, Vocabulary
from harness.data.grouping import Affinity, Candidate, Labels, Partition
from harness.data.recording import Activity, Reader, Recording, Rows, Source, Spins
from harness.data.units import UnitSpace
from harness.util.errors import HarnessError

if TYPE_CHECKING:
    import torch

    from harness.data.prediction import Prediction

Tick = Callable[[int], None]
"""Called with the share of work just done, in examples x conditions."""

# ----------------------------------------------------------------------------------------------------------------------
# The subject, once it is loaded
# ----------------------------------------------------------------------------------------------------------------------


@runtime_checkable
class Subject(Vocabulary, Protocol):
    """A loaded model. It can record a batch, and evaluate it with groups of units ablated.

    A subject without a model (``vocab_size`` 0) is only units: they can be grouped by what lies in files, and never be
    tested.
    """

    label: str
    units: UnitSpace
    about: Mapping[str, Any]
    """What a record says of it: architecture, dtype, device, digest of the weights, ..."""
    truth: Labels | None = None
    """The class of every unit where the subject knows it, as a planted one does."""
    model: torch.nn.Module | None = None
    """The module that a cell must leave unchanged; its ``config`` gives the shapes from which FLOPs are counted."""

    @abstractmethod
    def record(self, batch: Batch, readers: Mapping[str, Reader], tick: Tick) -> Recording:
        """Run the batch once and let every reader reduce what it sees."""

    @abstractmethod
    def evaluate(
        self,
        batch: Batch,
        conditions: Sequence[tuple[int, ...]],
        intervention: Intervention,
        metrics: Sequence[Metric],
        tick: Tick,
        reference: Batch | None = None,
    ) -> Float[np.ndarray, "metrics conditions examples"]:
        """Every metric on every example, with each condition's units ablated. ``()`` is the baseline model.

        ``reference`` holds other examples, for interventions that replace a unit's output by a mean over those.
        """


# ----------------------------------------------------------------------------------------------------------------------
# Methods, by stage
# ----------------------------------------------------------------------------------------------------------------------


@runtime_checkable
class Method(Protocol):
    """What every method declares, whatever its stage. A method draws whatever is random from its ``seed``."""

    name: ClassVar[str]
    seed: int = 0
    known_limits: ClassVar[Mapping[str, str]] = {}
    """Checks of ``harness check`` that the method cannot keep, each with the reason."""

    def fingerprint(self) -> str:
        """Digest of outside inputs, such as a file, so that a stale result is never served. Empty: there are none."""
        return ""


@runtime_checkable
class SubjectMethod(Method, Protocol):
    """Parameters of a subject. Calling it loads the model."""

    dtype: str = "float32"
    memory: str = "auto"
    """How much memory a pass may use: an amount (``8GB``), or ``auto``."""

    @abstractmethod
    def __call__(self) -> Subject: ...

    def config(self) -> str | None:
        """The folder or hub name whose ``config.json`` gives the model's shapes, for forecasts. None: unknown."""
        return None


@runtime_checkable
class BatchMethod(Method, Protocol):
    """Parameters of a batch. Calling it writes the examples in the subject's tokens."""

    n: int | None = None
    """How many examples there will be. None: unknown before the batch is written."""
    length: int | None = None
    """Tokens per example. None: the subject's context decides."""

    @abstractmethod
    def __call__(self, vocabulary: Vocabulary) -> Batch: ...


@runtime_checkable
class LabelMethod(Method, Protocol):
    """Labels from a recording, or from outside. A method that names a ``source`` is a :class:`Reader` as well."""

    source: ClassVar[Source | None] = None
    __call__: Callable[..., Labels]


@runtime_checkable
class Signal(Method, Reader, Protocol):
    """Recording -> activity. ``read`` reduces rows as they stream; what it returned, joined, is the activity.

    A signal whose readings are not yet one number per example and unit defines the call as well.
    """

    source: ClassVar[Source]

    @abstractmethod
    def read(self, rows: Rows) -> Float[np.ndarray, "examples heads *rest"]: ...

    def __call__(self, recording: Recording) -> Activity:
        """The readings as they are."""
        return Activity(recording.readings["signal"], recording.units)


@runtime_checkable
class Transform(Method, Protocol):
    """Activity -> activity of the same shape. Several are applied one after the other."""

    __call__: Callable[..., Activity]


@runtime_checkable
class Binarizer(Method, Protocol):
    """Activity -> spins (or the activity itself)."""

    @abstractmethod
    def __call__(self, activity: Activity) -> Spins | Activity: ...


@runtime_checkable
class AffinityMethod(Method, Protocol):
    """Spins, or whatever the binarizer gave, or only the units -> affinity."""

    __call__: Callable[..., Affinity]


@runtime_checkable
class Partitioner(Method, Protocol):
    """Affinity (or scores, spins, labels) -> one label per unit, for one or several numbers of groups."""

    k: Any = None
    """The numbers of groups asked for. None: the method decides."""
    __call__: Callable[..., list[Partition]]


@runtime_checkable
class Chooser(Method, Protocol):
    """Partitions -> how good each is, None where it cannot be judged. Candidates are taken from the best."""

    __call__: Callable[..., Sequence[float | None]]


@runtime_checkable
class Selector(Method, Protocol):
    """The chosen partition -> the candidate groups to be tested, best first."""

    min_size: int | None = None
    max_size: int | None = None
    count: int | None = None
    """How many candidates at most. None: as many as qualify."""
    __call__: Callable[..., Sequence[Candidate]]


@runtime_checkable
class Intervention(Method, Protocol):
    """What replaces the output of an ablated unit: [rows, positions, heads, head_dim], or broadcastable to it.

    An intervention may ask for:

    - ``output``: what the units hand on in this run;
    - ``donor``: what the same units hand on in the run of ``donors(batch)``;
    - ``mean``: what the units hand on, on average [1 or positions, heads, head_dim].

    ``positions``: ablate at all positions, or at the query only. ``over``: take means over the tested batch, or over
    the reference, which is the examples proposed on. ``per``: one mean, or one for each position. A position is
    replaced by itself. Where only the query's matters, the intervention is shown the query's alone.
    """

    positions: Literal["all", "query"] = "all"
    over: Literal["batch", "reference"] = "batch"
    per: Literal["all", "position"] = "all"
    __call__: Callable[..., torch.Tensor]

    def donors(self, batch: Batch) -> Batch:  # noqa: ARG002  # for those that have donors
        """As many examples, with the same queries, whose run is the donor. Errors: the intervention has none."""
        raise HarnessError(
            f"intervention {self.name} asks for a donor, and defines no donors.",
            "Give it a method donors(batch) that returns a Batch of as many examples with the same queries.",
        )


@dataclass(frozen=True)
class ControlSets:
    """Random groups that a candidate is compared with, in random order. All are distinct; none shares a unit with it.

    ``shortfall`` names the layers (by number) or classes that had too few units left, with how many were missing; these
    were taken from other layers or classes. ``inflation``: how many times wider the damage of a random group spreads
    than that of these controls, because they are drawn from what the candidate leaves of a small pool
    (:func:`harness.data.sampling.inflation`).
    """

    groups: tuple[tuple[int, ...], ...]
    shortfall: Mapping[int, int] | Mapping[str, int] = field(default_factory=dict)
    inflation: float = 1.0


@runtime_checkable
class Controls(Method, Protocol):
    """Candidate (and what units are like) -> matched random groups."""

    n: int | None = None
    """How many groups at most. None: the method decides."""
    __call__: Callable[..., ControlSets]


@runtime_checkable
class Metric(Method, Protocol):
    """What ablation may damage. ``damage`` is the sign of a change for the worse."""

    damage: ClassVar[Literal[1, -1]]
    worst: ClassVar[float | None] = None
    """The mean that no damage can make worse. None: there is no such bound."""

    @abstractmethod
    def __call__(self, prediction: Prediction) -> torch.Tensor: ...


# ----------------------------------------------------------------------------------------------------------------------
# The stages
# ----------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stage:
    """One place in a cell where methods can be swapped. Its name is its config group and its first word on the CLI.

    ``contract``: what its methods fulfil; ``asks``: what they may ask for; ``many``: several are chosen, as a list
    (``metric=[loss,accuracy]``).
    """

    name: str
    hook: str
    does: str
    contract: type
    asks: tuple[str, ...] = ()
    many: bool = False


_KNOWING = ("recording", "units", "truth")
_REPLACING = ("output", "donor", "mean")
_MATCHING = ("candidate", "units", "labels", "strength")
_PROPOSED = ("affinity", "scores", "labels", "units", "spins", "observations", "activity")
STAGES: Mapping[str, Stage] = {
    stage.name: stage
    for stage in (
        Stage("subject", "harness_subjects", "a model that can be recorded and ablated", SubjectMethod),
        Stage(
            "batch", "harness_batches", "examples with a query position, a target and anchors", BatchMethod,
            ("vocabulary",),
        ),
        Stage("labels", "harness_labels", "what is known about units without clustering them", LabelMethod, _KNOWING),
        Stage("signal", "harness_signals", "recording -> one number per observation and unit", Signal, ("recording",)),
        Stage(
            "transform", "harness_transforms", "activity -> activity, one after the other", Transform,
            ("activity", "batch"), many=True,
        ),
        Stage("binarizer", "harness_binarizers", "activity -> spins", Binarizer, ("activity",)),
        Stage(
            "affinity", "harness_affinities", "spins -> how alike two units behave", AffinityMethod,
            ("spins", "observations", "units"),
        ),
        Stage("partitioner", "harness_partitioners", "affinity -> groups", Partitioner, _PROPOSED),
        Stage(
            "chooser", "harness_choosers", "partitions -> the one to take groups from", Chooser,
            ("partitions", *_PROPOSED),
        ),
        Stage(
            "selector", "harness_selectors", "groups -> candidates to be tested", Selector, ("partition", *_PROPOSED)
        ),
        Stage(
            "intervention", "harness_interventions", "what replaces the output of an ablated unit", Intervention,
            _REPLACING,
        ),
        Stage("controls", "harness_controls", "random groups matched to the candidate", Controls, _MATCHING),
        Stage(
            "metric", "harness_metrics", "what ablation may damage, and which way damage points", Metric,
            ("prediction",), many=True,
        ),
    )
}  # fmt: skip

INPUTS: Mapping[str, tuple[tuple[str, ...], str]] = {
    "vocabulary": ((), "the subject's tokens: vocab_size, context, encode"),
    "units": ((), "the units of the subject, in order"),
    "truth": ((), "the class of each unit where the subject knows it, as a planted one does; else None"),
    "batch": (("batch",), "the examples proposed on"),
    "recording": (("batch",), "what the method's own `read` returned for the batch"),
    "activity": (("signal", "transform"), "one number per observation and unit, transformed"),
    "scores": (("signal",), "one number per unit"),
    "spins": (("binarizer",), "activity as -1 / +1"),
    "observations": (("binarizer",), "what the binarizer gave: spins, or activity where it is `none`"),
    "affinity": (("affinity",), "how alike two units behave"),
    "labels": (("labels",), "what is known about units; a method that asks for it is marked as using labels"),
    "partitions": (("partitioner",), "one label per unit, several times, with their stability"),
    "partition": (("partitioner", "chooser"), "the chosen one"),
    "output": ((), "what heads hand to the output projection [rows, positions, heads, head_dim]"),
    "donor": ((), "what they hand on in the run of the intervention's `donors(batch)`"),
    "mean": ((), "what they hand on, on average [1 or positions, heads, head_dim]"),
    "candidate": ((), "positions of the units to be tested"),
    "strength": ((), "mean norm of what each unit writes to the residual stream [units]"),
    "prediction": ((), "logits at the query, and the target"),
}
"""What a method may ask for by name: the stages that produce it, and what it is."""

# ----------------------------------------------------------------------------------------------------------------------
# Asking a method
# ----------------------------------------------------------------------------------------------------------------------


def inputs_of(method: type) -> tuple[str, ...]:
    """What a method asks for: the names of its call's arguments, except those with a default."""
    arguments = list(signature(method.__call__).parameters.values())[1:]
    return tuple(a.name for a in arguments if a.default is Parameter.empty and a.kind is not Parameter.VAR_KEYWORD)


def call_with(method: Any, **available: Any) -> Any:
    """A method, called with those of the available inputs that it asks for."""
    return method(**{name: available[name] for name in inputs_of(type(method))})


def with_defaults(cls: type, contract: type) -> type:
    """The class, with the contract's default for everything that it does not declare."""
    for base in contract.__mro__:
        for name, default in vars(base).items():
            declared = not name.startswith("_") or name == "__call__"
            if declared and not hasattr(default, "__isabstractmethod__") and not _declares(cls, name):
                setattr(cls, name, default)
    return cls


def _declares(cls: type, name: str) -> bool:
    return any(name in vars(base) or name in vars(base).get("__annotations__", {}) for base in cls.__mro__[:-1])


def seeded(method: Any) -> bool:
    """Whether a method has a seed of its own: a parameter of that name."""
    return is_dataclass(method) and any(parameter.name == "seed" for parameter in fields(method))


def reseeded(method: Any, seed: int) -> Any:
    """The same method with another seed, where it has one."""
    return replace(method, seed=seed) if seeded(method) else method


def reads(method: Any) -> bool:
    """Whether a method looks at the model: it is a :class:`Reader` as well."""
    return method.source is not None


def uses_other_runs(intervention: Intervention) -> bool:
    """Whether an intervention asks for more than the run itself: its donors' outputs, or a mean."""
    return not {"donor", "mean"}.isdisjoint(inputs_of(type(intervention)))


def upstream(stage: str, methods: Mapping[str, Sequence[type]]) -> set[str]:
    """The stages that the methods of a stage depend on, itself included. ``methods``: those chosen, by stage."""
    found: set[str] = set()
    waiting = [stage]
    while waiting:
        stage = waiting.pop()
        if stage not in found:
            found.add(stage)
            names = {name for method in methods[stage] for name in inputs_of(method)}
            waiting += [producer for name in names for producer in INPUTS[name][0]]
    return found
