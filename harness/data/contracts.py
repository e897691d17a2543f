"""The contract of each stage: the inputs and outputs of its methods, and what they may declare.

A method is a frozen dataclass. Its fields are its parameters, and calling it runs it. The argument names of its call
are the inputs that it asks for (:data:`harness.data.stages.INPUTS`).

A contract has a default for every optional member. Built-in methods inherit from their contract. Other methods are
given the same defaults when they are registered (:func:`with_defaults`).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from harness.data.batch import Batch, Reads, Vocabulary
from harness.data.grouping import Affinity, Candidate, Labels, Partition
from harness.data.profile import Profile
from harness.data.recording import Activity, Reader, Recording, Rows, Source, Spins
from harness.data.strata import Strata
from harness.data.units import Run, UnitSpace
from harness.util.errors import HarnessError

if TYPE_CHECKING:
    import torch

    from harness.data.prediction import Prediction

Tick = Callable[[int], None]
"""Reports progress: called with the work just done, in examples x conditions."""


def no_tick(_: int) -> None:
    """For callers that show no progress."""


# ----------------------------------------------------------------------------------------------------------------------
# The subject, once it is loaded
# ----------------------------------------------------------------------------------------------------------------------


@runtime_checkable
class Subject(Protocol):
    """A loaded model. It can record a batch, and evaluate it with groups of units ablated.

    A subject without a model (``reads`` is None) has units, and may have observations of them. They can be grouped by
    data from files, but not tested.
    """

    label: str
    units: UnitSpace
    about: Mapping[str, Any]
    """Its description in records: architecture, dtype, device, digest of the weights, ..."""
    reads: Reads
    """How its examples are written: the vocabulary of token sequences, or the width of vectors."""
    sources: Mapping[str, str] = {}
    """What readers may read, each with a description in words (:data:`harness.data.recording.SOURCES`)."""
    gives: frozenset[str] = frozenset()
    """What interventions may ask for: ``output``, ``mean``, ``std``, ``constant``, ``noise``, ``donor``, ..."""
    truth: Labels | None = None
    """The class of every unit, where the subject knows it (planted subjects do)."""
    observations: Batch | None = None
    """What a subject without a model has measured: groups are proposed on all of it, instead of a batch."""
    model: torch.nn.Module | None = None
    """The module that a cell must not change. FLOPs are computed from the shapes in its ``config``."""

    @abstractmethod
    def record(self, batch: Batch, readers: Mapping[str, Reader], tick: Tick) -> Recording:
        """Run the batch once. Every reader reduces the rows of its source."""

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
        """Every metric on every example, with each condition's units ablated. ``()`` is the baseline.

        ``reference``: other examples, for interventions that replace a unit's output by its mean over them.
        """


# ----------------------------------------------------------------------------------------------------------------------
# Methods, by stage
# ----------------------------------------------------------------------------------------------------------------------


@runtime_checkable
class Method(Protocol):
    """The members of every method, whatever its stage. All randomness of a method comes from its ``seed``."""

    name: ClassVar[str]
    seed: int = 0
    known_limits: ClassVar[Mapping[str, str]] = {}
    """Checks of ``harness check`` that the method is known to fail, each with the reason."""

    def fingerprint(self) -> str:
        """Digest of external inputs, such as a file, so that no stale result is reused. Empty: there are none."""
        return ""

    def check_files(self) -> None:
        """Refuse a file that cannot be read: called before the model is loaded."""
        return


@runtime_checkable
class Sizes(Protocol):
    """Sizes of a decoder, known without loading it (:class:`harness.engine.shapes.Shapes`)."""

    @property
    def layers(self) -> int: ...
    @property
    def heads(self) -> int: ...
    @property
    def kv_heads(self) -> int: ...
    @property
    def mlp(self) -> int: ...
    @property
    def experts(self) -> int: ...


@runtime_checkable
class SubjectMethod(Method, Protocol):
    """The parameters of a subject. Calling it loads the model."""

    defaults: ClassVar[Mapping[str, str | Sequence[str]]] = {}
    """By stage: the method, or methods, that fit its units. A cell uses them unless others are chosen."""
    dtype: str = "float32"
    memory: str = "auto"
    """How much memory a pass may use: an amount (``8GB``), or ``auto``."""

    @abstractmethod
    def __call__(self) -> Subject: ...

    def config(self) -> str | None:
        """The folder or hub name whose ``config.json`` gives the model's shapes, for forecasts. None: unknown."""
        return None

    def vocabulary(self) -> Vocabulary | None:
        """What the model reads, known without loading its weights: its batches are made first. None: unknown."""
        return None

    def step(self) -> int | None:
        """The training step of its weights. None: unknown."""
        return None

    def checkpoints(self) -> Mapping[int, SubjectMethod]:
        """The subject at every checkpoint of its training, by step, this one among them. Empty: it has no others.

        Each has the same units and other weights. Methods that ask for ``history`` are given their recordings.
        """
        return {}

    def runs(self, sizes: Sizes) -> tuple[Run, ...] | None:  # noqa: ARG002  # used by subjects of other units
        """The sites of its units, for forecasts. None: they are attention heads, and conditions share work like them.

        Units at other sites are evaluated by hooks: conditions share the blocks before the first one that differs.
        """
        return None


@runtime_checkable
class BatchMethod(Method, Protocol):
    """The parameters of a batch. Calling it creates the examples in the subject's tokens."""

    defaults: ClassVar[Mapping[str, str | Sequence[str]]] = {"metric": ("log_odds", "accuracy", "target_logit", "loss")}
    """By stage: the methods that fit its examples. A batch with counterfactuals names ``logit_difference`` first."""
    n: int | None = None
    """The number of examples. None: unknown before the batch is created."""
    length: int | None = None
    """Tokens per example. None: the subject's context decides."""

    __call__: Callable[..., Batch]


@runtime_checkable
class LabelMethod(Method, Protocol):
    """Labels from a recording, or from outside. A method with a ``source`` is also a :class:`Reader`."""

    source: ClassVar[Source | None] = None
    __call__: Callable[..., Labels]


@runtime_checkable
class Stratifier(Method, Protocol):
    """Recording -> strata of the examples. It is fitted on the examples proposed on.

    One with a ``source`` is also a :class:`Reader`; its readings are ``recording.readings["stratifier"]``.
    """

    source: ClassVar[Source | None] = None
    __call__: Callable[..., Strata]


@runtime_checkable
class Signal(Method, Reader, Protocol):
    """Recording -> activity. ``read`` reduces rows while they stream; its joined results are the activity.

    A signal whose readings are not one number per example and unit also defines the call.
    """

    @abstractmethod
    def read(self, rows: Rows) -> Float[np.ndarray, "examples units *rest"]: ...

    def __call__(self, recording: Recording) -> Activity:
        """The readings, unchanged."""
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
    """Spins, observations (the output of any binarizer), or only the units -> affinity."""

    given_strata: bool = False
    """Whether its call also takes ``strata``: the stratum of every observation (-1: none), as covariates. Examples are
    then not divided for the proposal."""
    __call__: Callable[..., Affinity]


@runtime_checkable
class Partitioner(Method, Protocol):
    """Affinity (or scores, spins, labels) -> one label per unit, for one or more numbers of groups."""

    k: Any = None
    """The requested numbers of groups. None: the method decides."""
    __call__: Callable[..., list[Partition]]


@runtime_checkable
class Chooser(Method, Protocol):
    """Partitions -> a quality for each, None where it is undefined. Candidates are taken from the best one."""

    __call__: Callable[..., Sequence[float | None]]


@runtime_checkable
class Selector(Method, Protocol):
    """The chosen partition -> the candidates to be tested, best first."""

    min_size: int | None = None
    max_size: int | None = None
    count: int | None = None
    """Maximum number of candidates. None: all that qualify."""
    __call__: Callable[..., Sequence[Candidate]]


@runtime_checkable
class Intervention(Method, Protocol):
    """What an ablated unit hands on instead of its output: [rows, places, units, width], or broadcastable to it.

    ``places`` are the positions of a sequence; a vector has one. A unit's output is what its site hands on: the output
    of a head before the projection, the activation of a neuron. An intervention may request:

    - ``output``: the output of the units in this run;
    - ``donor``: the output of the same units in the run of ``donors(batch)``;
    - ``mean``, ``std``: mean and standard deviation of their output [places, units, width], with one place for all
      positions, or one for each;
    - ``constant``: of each unit, the constant with the least loss when it is ablated alone [1, units, width]. It is
      fitted over the same examples as means; the intervention has ``steps`` and ``rate``
      (:mod:`harness.data.fitting`);
    - ``traffic``: share of the tokens that means are taken over on which a unit hands on anything but zero [1, units,
      1]; for interventions on the weights of a mixture, of all units of the site [1, units];
    - ``noise``: independent standard normal numbers of the output's shape, the same ones in every condition. They
      follow from ``seed``, unit and example.

    ``positions``: ablate at all positions, or at the query only. ``over``: take means over the tested batch, or over
    the reference (the proposal half). ``per``: one mean, or one for each position. The replacement at a position may
    depend on that position only: if other positions have no effect, the intervention receives only the query position.
    """

    positions: Literal["all", "query"] = "all"
    over: Literal["batch", "reference"] = "batch"
    per: Literal["all", "position"] = "all"
    __call__: Callable[..., torch.Tensor]

    def donors(self, batch: Batch) -> Batch:  # noqa: ARG002  # used by interventions that have donors
        """The examples whose run is the donor: as many examples, with the same queries. Errors: not defined."""
        raise HarnessError(
            f"intervention {self.name} requests a donor but does not define donors(batch).",
            "Define donors(batch): it returns a Batch with as many examples and the same queries.",
        )


@dataclass(frozen=True)
class ControlSets:
    """The groups of the former test: distinct, in random order, and without any of the candidate's units.

    ``shortfall``: sites or classes with too few other units, and how many were missing; the missing units
    were taken from other sites or classes. ``inflation``: the spread of damage over random groups, divided by the
    spread over these controls, which come from a pool without the candidate's units
    (:func:`harness.data.sampling.inflation`).
    """

    groups: tuple[tuple[int, ...], ...]
    shortfall: Mapping[str, int] = field(default_factory=dict)
    inflation: float = 1.0


@runtime_checkable
class Controls(Method, Protocol):
    """Units, and their properties -> a profile: a partition of all units within whose cells groups are matched.

    A candidate is compared with groups that have as many units in each cell. The partition is fixed before any damage
    is seen, and does not depend on the candidate.
    """

    n: int | None = None
    """Number of groups. None: all where there are at most 2000, otherwise 199."""
    disjoint: Callable[..., ControlSets] | None = None
    """Candidate, ``n`` (and properties of the units) -> the groups of the former test (``test=disjoint``). None: groups
    of the profile that share no unit with the candidate."""
    __call__: Callable[..., Profile]


@runtime_checkable
class Metric(Method, Protocol):
    """A measure of the prediction that ablation may damage. ``damage``: the sign of a change for the worse.

    The metrics of a cell decide in the order in which they are listed (``metric=[...]``), the first one first.
    """

    damage: ClassVar[Literal[1, -1]]
    decides: ClassVar[bool] = True
    """Whether it takes part in the verdict. One that does not is reported, unless it is listed first."""
    worst: ClassVar[float | None] = None
    """The worst possible mean. None: there is no bound."""

    @abstractmethod
    def __call__(self, prediction: Prediction) -> torch.Tensor: ...


# ----------------------------------------------------------------------------------------------------------------------
# Declared members and their defaults
# ----------------------------------------------------------------------------------------------------------------------


def with_defaults(cls: type, contract: type) -> type:
    """Give the class the contract's default for every member that it does not declare."""
    for base in contract.__mro__:
        for name, default in vars(base).items():
            declared = not name.startswith("_") or name == "__call__"
            if declared and not hasattr(default, "__isabstractmethod__") and not _declares(cls, name):
                setattr(cls, name, default)
    return cls


def _declares(cls: type, name: str) -> bool:
    return any(name in vars(base) or name in vars(base).get("__annotations__", {}) for base in cls.__mro__[:-1])


def seeded(method: Any) -> bool:
    """Whether a method has a parameter ``seed``."""
    return is_dataclass(method) and any(parameter.name == "seed" for parameter in fields(method))


def reseeded(method: Any, seed: int) -> Any:
    """The same method with another seed, if it has one."""
    return replace(method, seed=seed) if seeded(method) else method


def reads(method: Any) -> bool:
    """Whether a method reads the model: it is also a :class:`Reader`, and names a source."""
    return bool(method.source)
