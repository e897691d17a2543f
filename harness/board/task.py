"""The tasks of a board: what a method is judged on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.records.record import Record
from harness.util.digest import digest


@dataclass(frozen=True)
class Task:
    """A subject, a batch (target) and an intervention by name, and a digest of their content.

    ``base``: the name without the intervention. The scores of all interventions on one subject and batch are averaged
    before anything is ranked: on the same examples they do not count as several tasks.
    """

    name: str
    digest: str
    base: str


def task_digest(record: Record) -> str:
    """Identity of a record's task: subject, intervention and the content of the batch."""
    stages = [record.config.get(stage) for stage in ("subject", "batch", "intervention")]
    return digest(record.cell.task, stages, _content(record))[:12]


def seed_of(record: Record) -> int:
    """The seed of a cell. Cells that differ only in it are repetitions."""
    return int(record.config.get("seed", 0))


def tasks_of(records: Sequence[Record]) -> dict[str, Task]:
    """The tasks of records by digest, in the order of their names; equal names get their digests appended."""
    by_digest = {task_digest(record): record for record in records}
    names = _distinct({key: record.cell.task for key, record in by_digest.items()})
    bases = {key: _base_digest(record) for key, record in by_digest.items()}
    base_names = _distinct({bases[key]: record.cell.examples for key, record in by_digest.items()})
    tasks = [Task(names[key], key, base_names[bases[key]]) for key in by_digest]
    return {task.digest: task for task in sorted(tasks, key=lambda task: task.name)}


def _distinct(names: Mapping[str, str]) -> dict[str, str]:
    """The names by digest, each with its digest appended where several are equal."""
    every = list(names.values())
    return {key: f"{name} #{key[:6]}" if every.count(name) > 1 else name for key, name in names.items()}


def _base_digest(record: Record) -> str:
    return digest(record.cell.examples, record.config.get("subject"), record.config.get("batch"), _content(record))[:12]


def _content(record: Record) -> str | None:
    content: str | None = record.provenance.get("batch", {}).get("digest")
    return content
