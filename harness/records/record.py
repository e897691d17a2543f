"""Records: the complete, self-contained, versioned result of a cell, and the only truth about it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from harness.closure.report import ClosureReport
from harness.data.grouping import Agreement, Stability
from harness.records.upgrades import PREFIX, UPGRADES, upgraded
from harness.util.digest import digest
from harness.util.errors import HarnessError

SCHEMA = f"{PREFIX}3"
_STRICT: dict[str, Any] = {"extra": "forbid"}


class Status(StrEnum):
    """How a cell ended."""

    OK = "ok"
    SKIPPED = "skipped"  # nothing to test: no group qualified as a candidate
    INVALID = "invalid"  # the user can put it right; the reason says how
    FAILED = "failed"  # a method or the harness broke; its traceback lies beside the record
    INTERRUPTED = "interrupted"  # stopped by the user


FINISHED = frozenset({Status.OK, Status.SKIPPED})


@dataclass(frozen=True)
class CellInfo:
    """What the cell was: identities for boards and caches, names for people; ``supervised`` stages saw the labels."""

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
        """The column of a board: on what a method was judged."""
        return f"{self.subject} · {self.batch} ({self.target}) · {self.intervention}"


@dataclass(frozen=True)
class PartitionRecord:
    """One partition: ``labels[i]`` is the group of ``units[i]``, -1 where it is in none.

    ``k``: groups asked for, ``groups``: groups found; ``quality``: what the chooser thinks of it.
    """

    name: str
    k: int
    groups: int
    labels: tuple[int, ...]
    quality: float | None = None
    agreement: Agreement | None = None
    stability: Stability | None = None
    diagnostics: Mapping[str, Any] = field(default_factory=dict)
    __pydantic_config__: ClassVar = _STRICT


@dataclass(frozen=True)
class CandidateRecord:
    """One candidate group, and why it was chosen."""

    units: tuple[str, ...]
    size: int
    layers: tuple[int, ...]
    purity: float | None
    isolation: float | None
    score: float | None
    stability: float | None = None
    __pydantic_config__: ClassVar = _STRICT


@dataclass(frozen=True)
class Record:
    """Everything there is to know about one cell.

    ``units`` are the labels of all units in order; ``classes`` what the labels say of each; ``diagnostics`` what the
    stages warn of; ``seconds`` the time spent per stage; ``cost`` what else it took: ``conditions`` asked for (group x
    batch), and how many were ``computed`` here, because no cell had asked before; ``forwards``, one per condition and
    example; ``flops`` of these and of recordings, computed or not (none where the model's are not known); ``memory``,
    the most bytes the process held meanwhile, and ``gpu_memory``. ``original`` is the JSON of a record that was read
    from an older schema, as it was written then.
    """

    status: Status
    reason: str
    cell: CellInfo
    config: Mapping[str, Any]
    provenance: Mapping[str, Any]
    units: tuple[str, ...] = ()
    classes: tuple[str | None, ...] = ()
    partitions: tuple[PartitionRecord, ...] = ()
    chosen: int | None = None
    candidates: tuple[CandidateRecord, ...] = ()
    closure: tuple[ClosureReport, ...] = ()
    diagnostics: Mapping[str, Any] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    cost: Mapping[str, int] = field(default_factory=dict)
    schema: str = SCHEMA
    original: str = ""
    __pydantic_config__: ClassVar = _STRICT

    @property
    def partition(self) -> PartitionRecord | None:
        """The partition that candidates were taken from."""
        return None if self.chosen is None else self.partitions[self.chosen]

    @property
    def chosen_by_labels(self) -> bool:
        """Whether the labels had a say in the partition: its agreement with them is then no fair score."""
        seen = self.cell.supervised
        return "partitioner" in seen or ("chooser" in seen and len(self.partitions) > 1)

    @property
    def digest(self) -> str:
        """SHA-256 of the record as it was written, whatever the layout of its file."""
        return digest(self.as_written())

    def as_written(self) -> str:
        """The record as JSON, in the schema it was written in."""
        return self.original or self.to_json()

    def to_json(self) -> str:
        """The record as JSON, schema first."""
        data = _adapter().dump_python(self, mode="json", exclude={"original"})
        return _laid_out({"schema": data.pop("schema"), **data})


def read_record(path: Path) -> Record:
    """A record from disk, validated.

    Errors: a file that is not JSON, a record of another schema, a field that is missing, unknown or of a wrong type.
    """
    remedy = f"Move it away, or redo its cell with --force: {path}"
    try:
        text = path.read_text(encoding="utf-8")
    except (ValueError, OSError) as error:
        raise HarnessError(f"record {path.parent.name} is damaged: {error}.", remedy) from error
    return parse_record(text, path.parent.name, remedy)


def parse_record(text: str, name: str, remedy: str) -> Record:
    """A record from its JSON, validated; ``name`` and ``remedy`` are what its errors say. Errors: as above."""
    from pydantic import ValidationError

    try:
        data = json.loads(text)
    except ValueError as error:
        raise HarnessError(f"record {name} is damaged: {error}.", remedy) from error
    schema = data.get("schema") if isinstance(data, dict) else None
    try:
        current = upgraded(data) if isinstance(data, dict) else {}
    except (AttributeError, TypeError) as error:
        raise HarnessError(
            f"record {name} is damaged: it does not read as one of schema {schema!r}.", remedy
        ) from error
    if current.get("schema") != SCHEMA:
        readable = ", ".join(f"{PREFIX}{n}" for n in UPGRADES)
        raise HarnessError(
            f"record {name} has schema {schema!r}; this harness reads {SCHEMA!r} (and {readable}).", remedy
        )
    if current.pop("original", None) is not None:
        raise HarnessError(f"record {name} is damaged: original: unexpected keyword argument.", remedy)
    try:
        record: Record = _adapter().validate_python(current)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise HarnessError(f"record {name} is damaged: {where}: {first['msg'].lower()}.", remedy) from error
    return record if schema == SCHEMA else replace(record, original=_laid_out(data))


def _laid_out(data: Mapping[str, Any]) -> str:
    return json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False)


@cache
def _adapter() -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(Record)
