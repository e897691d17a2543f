"""Records: the complete, self-contained, versioned result of a cell. Boards, reports and MLflow are derived from it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache, cached_property
from typing import Any, ClassVar

from harness.closure.report import ClosureReport
from harness.closure.size_curve import SizeCurve
from harness.data.grouping import Agreement, Stability
from harness.data.units import Run, UnitSpace
from harness.proposal.strata_null import StrataNull
from harness.records.upgrades import PREFIX
from harness.util.digest import digest

SCHEMA = f"{PREFIX}7"
FIGURES = "groups"
"""The entry of ``diagnostics`` that says what groups are like at a checkpoint: selectivity and score, by group."""
FIT = "fit"
"""The entry of ``diagnostics`` that says how well the constants of the intervention were fitted."""
GROWN = "grown"
"""The entry of ``diagnostics`` that says which units were added to a candidate before the test."""
COMPLETENESS = "completeness"
"""The entry of ``diagnostics`` with the completeness of every candidate, by metric."""
KNOWN = "known circuits"
"""The entry of ``diagnostics`` that says how well known circuits were found, by figure."""
QUALITY = "quality"
"""The entry of ``diagnostics`` that says how good the groups are (:mod:`harness.proposal.quality`)."""
SELECTIVITY = "selectivity"
"""The entry of ``diagnostics`` with the damage of every candidate in every stratum."""
_STRICT: dict[str, Any] = {"extra": "forbid", "allow_inf_nan": False}


def group_key(units: Sequence[str], stratum: str = "") -> str:
    """The key of a group in tables of ``diagnostics``: the labels of its units, and its stratum if it has one."""
    return " ".join(units) + (f" ({stratum})" if stratum else "")


class Status(StrEnum):
    """How a cell ended."""

    OK = "ok"
    SKIPPED = "skipped"  # no group qualified as a candidate, so nothing was tested
    INVALID = "invalid"  # the user can correct it; the reason says how
    FAILED = "failed"  # a method or the harness raised an error; its traceback is beside the record
    INTERRUPTED = "interrupted"  # the user stopped it


FINISHED = frozenset({Status.OK, Status.SKIPPED})


@dataclass(frozen=True)
class CellInfo:
    """The description of a cell: identities for boards and caches, names for people; ``supervised`` names the stages
    that used the labels.
    """

    id: str
    row: str
    protocol: str
    title: str
    method: str
    subject: str
    batch: str
    target: str
    intervention: str
    supervised: tuple[str, ...] = ()
    __pydantic_config__: ClassVar = _STRICT

    @property
    def task(self) -> str:
        """The column of a board: the task on which a method is judged."""
        return f"{self.examples} · {self.intervention}"

    @property
    def examples(self) -> str:
        """The task without its intervention."""
        return f"{self.subject} · {self.batch} ({self.target})"


@dataclass(frozen=True)
class PartitionRecord:
    """One partition: ``labels[i]`` is the group of ``units[i]``, or -1 where the unit is in no group.

    ``k``: how many groups were requested; ``groups``: how many were found; ``chosen``: candidates come from
    it; ``stratum``: the examples it was found on, if examples were divided; ``quality``: the chooser's score.
    """

    name: str
    k: int
    groups: int
    labels: tuple[int, ...]
    quality: float | None = None
    agreement: Agreement | None = None
    stability: Stability | None = None
    diagnostics: Mapping[str, Any] = field(default_factory=dict)
    chosen: bool = False
    stratum: str = ""
    __pydantic_config__: ClassVar = _STRICT


@dataclass(frozen=True)
class ActiveExample:
    """An example on which a group or a unit is active: its place among those proposed on, and its content in a line."""

    example: int
    activity: float
    shown: str
    __pydantic_config__: ClassVar = _STRICT


@dataclass(frozen=True)
class ExampleRecord:
    """A test example: its place among those tested, its prompt (shortened) and answer as text or token ids.

    ``before``, ``after``: the model's most likely output without and with ablation of the candidate. ``change``: of the
    first metric, by the ablation.
    """

    example: int
    prompt: str
    answer: str
    before: str
    after: str
    change: float
    __pydantic_config__: ClassVar = _STRICT


@dataclass(frozen=True)
class CandidateRecord:
    """One candidate group, with the numbers that were used to choose it.

    ``stratum``: the examples that it was proposed on, if they were divided. ``most_active``: the examples on which the
    group is most active; ``unit_most_active``: the same for its units, by label. ``examples``: some test examples with
    the model's predictions, those first that ablation damages most. ``pruned``: units of the proposed group that were
    dropped before the test, because the group does not need them.
    """

    units: tuple[str, ...]
    size: int
    sites: tuple[str, ...]
    purity: float | None
    isolation: float | None
    score: float | None
    stability: float | None = None
    stratum: str = ""
    most_active: tuple[ActiveExample, ...] = ()
    unit_most_active: Mapping[str, tuple[ActiveExample, ...]] = field(default_factory=dict)
    examples: tuple[ExampleRecord, ...] = ()
    pruned: tuple[str, ...] = ()
    __pydantic_config__: ClassVar = _STRICT


@dataclass(frozen=True)
class StratumRecord:
    """One stratum of the examples: how many were proposed on and tested, and what the model does without ablation.

    ``baseline``: by metric, its mean over the tested examples. ``routing_entropy``: the mean entropy of their routers
    in nats (:class:`harness.data.routing.RoutingEntropy`); None for a model without routers.
    """

    name: str
    n_proposed: int
    n_tested: int
    baseline: Mapping[str, float] = field(default_factory=dict)
    routing_entropy: float | None = None
    __pydantic_config__: ClassVar = _STRICT


@dataclass(frozen=True)
class Record:
    """The complete result of one cell.

    ``units``: the labels of all units, in order; ``sites``: their sites, as runs. ``classes``: the class
    of each unit according to the labels. ``unit_damage``: by metric and unit, the damage when this unit alone is
    ablated, where it was measured: the mean change on the test examples, positive for the worse. ``size_curve``: where
    the cell asks for one. ``strata``: those that the examples were divided into; ``strata_null``: their largest
    agreement with the labels among that of random strata, where the cell asks for it. ``diagnostics``: warnings of the
    stages, and the quality of the groups. ``seconds``: time spent per stage.

    ``cost``: ``conditions`` requested (group x batch), and how many of them were ``computed`` here because no earlier
    cell had computed them; ``forwards``, one per condition and example; ``flops`` of all forwards and recordings,
    computed or cached (absent where the model's shapes are unknown); ``memory`` and ``gpu_memory``, the peak in bytes.

    ``original``: for a record of an older schema, its JSON as it was written.
    """

    status: Status
    reason: str
    cell: CellInfo
    config: Mapping[str, Any]
    provenance: Mapping[str, Any]
    units: tuple[str, ...] = ()
    sites: tuple[Run, ...] = ()
    classes: tuple[str | None, ...] = ()
    partitions: tuple[PartitionRecord, ...] = ()
    candidates: tuple[CandidateRecord, ...] = ()
    closure: tuple[ClosureReport, ...] = ()
    unit_damage: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    size_curve: SizeCurve | None = None
    strata: tuple[StratumRecord, ...] = ()
    strata_null: StrataNull | None = None
    diagnostics: Mapping[str, Any] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    cost: Mapping[str, int] = field(default_factory=dict)
    schema: str = SCHEMA
    original: str = ""
    __pydantic_config__: ClassVar = _STRICT

    @cached_property
    def unit_space(self) -> UnitSpace:
        """The units, with their sites."""
        return UnitSpace.from_runs(self.units, self.sites)

    @property
    def partition(self) -> PartitionRecord | None:
        """The partition that the candidates come from; with strata, that of the first stratum."""
        return next((partition for partition in self.partitions if partition.chosen), None)

    @property
    def known(self) -> dict[str, float]:
        """How well known circuits were found, by figure (``harness.cells.known_circuits``); empty without any."""
        found = self.diagnostics.get(KNOWN)
        numbers = found.items() if isinstance(found, Mapping) else ()
        return {name: value for name, value in numbers if isinstance(value, float)}

    @property
    def grown(self) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """By ``group_key`` of a candidate: the units that were added to it before the test, with their gains."""
        found: Mapping[str, Sequence[Mapping[str, Any]]] = self.diagnostics.get(GROWN, {})
        return found

    def completeness(self, closure: ClosureReport, metric: str) -> float | None:
        """How much of the task all other units do without the group (:func:`harness.closure.anatomy.completeness`)."""
        by_metric = self.diagnostics.get(COMPLETENESS, {}).get(group_key(closure.units, closure.stratum), {})
        value: float | None = by_metric.get(metric)
        return value

    @property
    def chosen_by_labels(self) -> bool:
        """Whether the labels influenced the partition. Its agreement with the labels is then not a fair score."""
        supervised = self.cell.supervised
        return "partitioner" in supervised or ("chooser" in supervised and len(self.partitions) > 1)

    @property
    def digest(self) -> str:
        """SHA-256 of the record as it was written, whatever the layout of its file."""
        return digest(self.as_written())

    def as_written(self) -> str:
        """The record as JSON, in the schema it was written in."""
        return self.original or self.to_json()

    def to_json(self) -> str:
        """The record as JSON, schema first."""
        data = adapter().dump_python(self, mode="json", exclude={"original"})
        return laid_out({"schema": data.pop("schema"), **data})


def laid_out(data: Mapping[str, Any]) -> str:
    """A record's JSON. Half a surrogate pair, of a file name that is not text, becomes a question mark.

    Errors (ValueError): NaN and infinity, which no reader accepts.
    """
    text = json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", errors="replace").decode("utf-8")


@cache
def adapter() -> Any:
    """What turns records into plain values and back."""
    from pydantic import TypeAdapter

    return TypeAdapter(Record)
