"""Submitted records: the checks before they are added to a board.

Only a proposing method that is not installed here is taken at its word. How groups are judged, and on what, is compared
with the board's own records; figures are computed again (:mod:`harness.board.recomputed`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from harness.board.board import Board
from harness.board.recomputed import contradictions
from harness.board.references import ROW, command
from harness.board.same_task import differences
from harness.board.table import build
from harness.board.task import MACHINE, PLACES, seed_of, task_digest
from harness.cells.cell import Cell
from harness.cells.settings import NEUTRAL, NOT_JUDGING, PROPOSING, Settings
from harness.data.stages import STAGES
from harness.records.record import FINISHED, Record
from harness.registry.registry import Registry
from harness.util.errors import HarnessError

OF_METHOD = frozenset({*PROPOSING, "stratifier", "seed", *NOT_JUDGING, *NEUTRAL})
"""Keys of the configuration that may differ between the records of one board's task."""


def problems(submitted: Mapping[str, Record], existing: Sequence[Record], registry: Registry) -> list[str]:
    """Why submitted records, given by their place, may not be added to those of a board. Empty if they may."""
    boards = build(existing)
    sentences: list[str] = []
    for where, record in submitted.items():
        sentences += [f"{where}: {problem}" for problem in _problems(record, existing, boards, registry)]
    sentences += _repeated(submitted)
    sentences += _rows([*existing, *submitted.values()])
    rows: dict[tuple[str, str], list[Record]] = {}
    for record in submitted.values():
        rows.setdefault((record.cell.protocol, record.cell.row), []).append(record)
    for row in rows.values():
        sentences += _missing_tasks(row, existing, boards)
    return sentences


def _problems(record: Record, existing: Sequence[Record], boards: Sequence[Board], registry: Registry) -> Iterator[str]:
    if record.status not in FINISHED:
        yield f"the cell is {record.status.value} ({record.reason}); run it again: {command(record, record)}"
        return
    if record.config.get("group"):
        yield "its group was named by hand, not proposed by a method"
        return
    if any(record.digest == other.digest for other in existing):
        return  # it is on the board already
    of_protocol = [r for r in existing if r.cell.protocol == record.cell.protocol and r.status in FINISHED]
    if not of_protocol:
        changes = "; ".join(_changes(record, existing[0], registry)) or "other settings or files"
        yield f"its protocol ({record.cell.protocol}) is not the board's: {changes}"
        return
    tasks = [task for board in boards if board.protocol == record.cell.protocol for task in board.tasks]
    digest, names = task_digest(record), [task.name for task in tasks]
    same_task = [other for other in of_protocol if task_digest(other) == digest]
    if not same_task:
        same_name = record.cell.task in names
        problem = (
            "has another model, other units or other examples on the board"
            if same_name
            else f"is not on the board, which has {'; '.join(names)}"
        )
        yield f"its task '{record.cell.task}' {problem}"
    place = _place(record)
    for other in existing:
        if _place(other) == place or other.cell.id == record.cell.id:
            yield f"the board already has this method on this task (cell {other.cell.id}); records are never replaced"
    yield from _changes(record, (same_task or of_protocol)[0], registry)
    if same_task:
        yield from differences(record, same_task)
    yield from _identity(record, of_protocol[0], registry)
    if record.original and record.config.get("test") != "disjoint":
        yield "its schema is older than the test that it names"
    yield from contradictions(record)


def _changes(record: Record, of_board: Record, registry: Registry) -> Iterator[str]:
    """The settings and methods in which a record was judged otherwise than one of the board."""
    usual = asdict(Settings())
    for key in dict.fromkeys([*STAGES, "contrast", *usual]):
        if key in OF_METHOD:
            continue
        given, required = (r.config.get(key, usual.get(key)) for r in (record, of_board))
        if _content(key, given, registry) != _content(key, required, registry):
            yield f"{key} is {given}, the board has {required}"


def _content(stage: str, value: Any, registry: Registry) -> str:
    """A setting, or the methods of a stage without parameters that a digest covers or that change only the time."""
    if not isinstance(value, Mapping):
        return json.dumps(value)
    several = STAGES[stage].many if stage in STAGES else False
    nodes = [dict(node) for node in (value.values() if several else [value])]
    not_content = MACHINE | PLACES if stage == "subject" else frozenset()
    for node in nodes:
        try:
            method = registry.get("batch" if stage == "contrast" else stage, str(node.get("name")))
        except HarnessError:
            skipped = not_content
        else:
            at_default = {key for key, value in method.added.items() if node.get(key) == value}
            skipped = not_content | method.neutral | method.by_content | at_default
        for key in skipped & node.keys():
            del node[key]
    return json.dumps(nodes, sort_keys=True)


def _identity(record: Record, of_board: Record, registry: Registry) -> Iterator[str]:
    """Row and protocol must follow from the configuration.

    A proposing method that is not installed is replaced by the board's to compute the protocol, which is about judging
    alone; the row is then taken at its word.
    """
    unknown = [stage for stage in (*PROPOSING, "stratifier") if not _installed(record, stage, registry)]
    own = {stage: of_board.config[stage] for stage in unknown if stage in of_board.config}
    given = record.cell
    try:
        cell = Cell.of({**record.config, **own}, registry)
        pairs: dict[str, tuple[Any, Any]] = {"protocol": (given.protocol, cell.protocol)}
        if not unknown:
            pairs |= {"row": (given.row, cell.row), "supervised": (given.supervised, cell.supervised)}
            if not record.original:  # names of older records follow the defaults of their time
                pairs |= {"method": (given.method, cell.method), "title": (given.title, cell.title)}
    except HarnessError:
        return  # a file that is not here: its identity cannot be computed again
    for name, (value, recomputed) in pairs.items():
        if value != recomputed:
            yield f"its {name} is '{value}', but its configuration makes '{recomputed}'"


def _installed(record: Record, stage: str, registry: Registry) -> bool:
    value = record.config.get(stage) or {}
    nodes = value.values() if STAGES[stage].many else [value]
    return all(node.get("name") in registry.names(stage) for node in nodes if node)


def _repeated(submitted: Mapping[str, Record]) -> Iterator[str]:
    """A submission has one record per cell, and one per protocol, method, seed and task."""
    by_cell: dict[str, list[str]] = {}
    by_place: dict[tuple[str, str, int, str], list[str]] = {}
    for where, record in submitted.items():
        by_cell.setdefault(record.cell.id, []).append(where)
        by_place.setdefault(_place(record), []).append(where)
    yield from (f"cell {cell} occurs twice: {', '.join(each)}" for cell, each in by_cell.items() if len(each) > 1)
    for each in by_place.values():
        if len(each) > 1:
            yield f"{', '.join(each)}: records of one method, seed and task; one is enough"


def _rows(records: Sequence[Record]) -> Iterator[str]:
    """One method has one row, and one row one method."""
    proposing = {record.cell.id: json.dumps([record.config.get(key) or None for key in ROW]) for record in records}
    by_row: dict[str, set[str]] = {}
    for record in records:
        by_row.setdefault(record.cell.row, set()).add(proposing[record.cell.id])
    for row, methods in by_row.items():
        if len(methods) > 1:
            yield f"row {row} has {len(methods)} methods with other parameters"


def _place(record: Record) -> tuple[str, str, int, str]:
    return record.cell.protocol, record.cell.row, seed_of(record), task_digest(record)


def _missing_tasks(row: Sequence[Record], existing: Sequence[Record], boards: Sequence[Board]) -> Iterator[str]:
    """Tasks of the board without a record of this row, submitted or existing."""
    first = row[0]
    finished = {task_digest(record) for record in row if record.status in FINISHED}
    same_row = [r for r in existing if (r.cell.protocol, r.cell.row) == (first.cell.protocol, first.cell.row)]
    finished |= {task_digest(record) for record in same_row}
    for board in boards:
        if board.protocol == first.cell.protocol and finished & {task.digest for task in board.tasks}:
            for task in board.tasks:
                if task.digest not in finished:
                    example = next(record for record in existing if task_digest(record) == task.digest)
                    yield f"{first.cell.method}: no record of task '{task.name}'; run: {command(first, example)}"
