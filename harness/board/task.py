"""The tasks of a board: what a method is judged on. They are told apart by content, never by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.records.record import Record
from harness.util.digest import digest

MACHINE = frozenset({"device", "device_map", "memory"})
"""Parameters of subjects that say where a model runs: they change the time that a result takes."""
PLACES = frozenset({"path", "revision"})
"""Parameters of subjects that say where its weights are: the digest of the weights says which they are."""


@dataclass(frozen=True)
class Task:
    """A subject, a batch (target) and an intervention by name, and a digest of their content.

    ``base``: the name without the intervention. The scores of all interventions on one subject and batch are averaged
    before anything is ranked: on the same examples they do not count as several tasks. ``also``: other names that
    records have for the same content.
    """

    name: str
    digest: str
    base: str
    also: tuple[str, ...] = ()


def subject_digest(record: Record) -> str:
    """Identity of a record's subject: its weights where they are known, else its parameters; and its units."""
    weights = record.provenance.get("subject", {}).get("weights")
    not_content = MACHINE | PLACES if weights else MACHINE
    return digest(_without(not_content, record.config.get("subject")), weights, record.units)[:12]


def task_digest(record: Record) -> str:
    """Identity of a finished record's task: the content of its subject and of its batch, and its intervention."""
    return digest(_examples_digest(record), record.config.get("intervention"))[:12]


def asked_digest(record: Record) -> str:
    """Identity of the task that a record was asked for: of cells that did not finish, the content is not known."""
    return asked_of(record.config)


def asked_of(config: Mapping[str, Any]) -> str:
    """Identity of the task that a configuration asks for."""
    asked = [config.get("batch"), config.get("intervention")]
    return digest(_without(MACHINE, config.get("subject")), *asked)[:12]


def seed_of(record: Record) -> int:
    """The seed of a cell. Cells that differ only in it are repetitions."""
    return int(record.config.get("seed", 0))


def tasks_of(records: Sequence[Record]) -> dict[str, Task]:
    """The tasks of records by digest, in the order of their names."""
    called: dict[str, set[str]] = {}
    bases: dict[str, str] = {}
    called_without: dict[str, set[str]] = {}
    for record in records:
        key = task_digest(record)
        bases[key] = _examples_digest(record)
        called.setdefault(key, set()).add(record.cell.task)
        called_without.setdefault(bases[key], set()).add(record.cell.examples)
    names, base_names = distinct(called), distinct(called_without)
    tasks = [Task(names[key], key, base_names[bases[key]], tuple(sorted(called[key])[1:])) for key in called]
    return {task.digest: task for task in sorted(tasks, key=lambda task: task.name)}


def distinct(called: Mapping[str, Iterable[str]]) -> dict[str, str]:
    """A name for every digest: the first that it is called; where several are equal, with the digest appended."""
    names = {key: min(each) for key, each in called.items()}
    every = list(names.values())
    return {key: f"{name} #{key[:6]}" if every.count(name) > 1 else name for key, name in names.items()}


def batch_digest(record: Record) -> str | None:
    """Digest of the content of a record's batch; None where the record does not have it."""
    content: str | None = record.provenance.get("batch", {}).get("digest")
    return content


def _examples_digest(record: Record) -> str:
    return digest(subject_digest(record), batch_digest(record) or record.config.get("batch"))[:12]


def _without(keys: Iterable[str], node: Mapping[str, Any] | None) -> dict[str, Any]:
    return {key: value for key, value in (node or {}).items() if key not in keys}
