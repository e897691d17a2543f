"""Submitted records: the checks before they are added to a board."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from harness.board.board import Board
from harness.board.references import command
from harness.board.table import PROTOCOL, build
from harness.board.task import seed_of, task_digest
from harness.cells.cell import Cell
from harness.closure.comparison import as_extreme
from harness.closure.report import ClosureReport
from harness.closure.statistics import Effect, inflated, p_value
from harness.closure.verdict import decide
from harness.records.record import FINISHED, Record
from harness.registry.registry import Registry
from harness.util.errors import HarnessError


def problems(submitted: Mapping[str, Record], existing: Sequence[Record], registry: Registry) -> list[str]:
    """Why submitted records, given by their place, may not be added to those of a board. Empty if they may."""
    boards = build(existing)
    cells = [record.cell.id for record in submitted.values()]
    sentences = [
        f"{where}: cell {r.cell.id} occurs twice" for where, r in submitted.items() if cells.count(r.cell.id) > 1
    ]
    for where, record in submitted.items():
        sentences += [f"{where}: {problem}" for problem in _problems(record, existing, boards, registry)]
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
    tasks = [task for board in boards if board.protocol == record.cell.protocol for task in board.tasks]
    if not tasks:
        yield f"its protocol ({record.cell.protocol}) is not the board's: {_protocol_changes(record, existing[0])}"
        return
    digest, names = task_digest(record), [task.name for task in tasks]
    if digest not in [task.digest for task in tasks]:
        same_name = record.cell.task in names
        problem = (
            "has other examples on the board" if same_name else f"is not on the board, which has {'; '.join(names)}"
        )
        yield f"its task '{record.cell.task}' {problem}"
    place = (record.cell.protocol, record.cell.row, seed_of(record), digest)
    for other in existing:
        same_place = (other.cell.protocol, other.cell.row, seed_of(other), task_digest(other)) == place
        if (same_place or other.cell.id == record.cell.id) and other.digest != record.digest:
            yield f"the board already has this method on this task (cell {other.cell.id}); records are never replaced"
    yield from _identity(record, registry)
    for i, closure in enumerate(record.closure):
        yield from (f"candidate {i + 1}: {problem}" for problem in _numbers(closure, record))


def _identity(record: Record, registry: Registry) -> Iterator[str]:
    """Row, protocol and method must follow from the configuration. Checked if all its methods are installed."""
    given = record.cell
    try:
        cell = Cell.of(record.config, registry)
        pairs = {
            "row": (given.row, cell.row),
            "protocol": (given.protocol, cell.protocol),
        }
        if not record.original:  # names of older records follow the defaults of their time
            pairs["method"] = (given.method, cell.method)
    except HarnessError:
        return  # a method that is not installed here: its identity cannot be recomputed
    for name, (value, recomputed) in pairs.items():
        if value != recomputed:
            yield f"its {name} is '{value}', but its configuration makes '{recomputed}'"


def _numbers(closure: ClosureReport, record: Record) -> Iterator[str]:
    """p-values and the verdict must follow from the numbers beside them."""
    for name, effect in closure.effects.items():
        p = _p_value(closure, effect)
        if (p is None) != (effect.p is None) or (p is not None and not math.isclose(p, effect.p or 0.0)):
            yield f"{name}: p is {effect.p}, but its {len(effect.controls)} compared groups make {p}"
        if effect.p is not None and effect.p_adjusted is not None and effect.p_adjusted < effect.p - 1e-12:
            yield f"{name}: corrected p {effect.p_adjusted} is below p {effect.p}"
    if record.original:
        return  # verdicts of earlier schemas followed other rules
    verdict, _ = decide(closure.evidence(float(record.config.get("alpha", 0.05))))
    if verdict is not closure.verdict:
        yield f"its verdict is {closure.verdict.value}, but its numbers make {verdict.value}"


def _p_value(closure: ClosureReport, effect: Effect) -> float | None:
    """p, computed again from what the record holds of the compared groups."""
    if closure.test == "exact" and effect.statistics:
        own, *others = (-math.inf if value is None else value for value in (effect.statistic, *effect.statistics))
        return (1 + as_extreme(own, np.array(others))) / (1 + len(others))
    factor = closure.inflation
    return None if factor is None else p_value(effect.delta, inflated(effect.controls, factor), effect.damage)


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


def _protocol_changes(record: Record, of_board: Record) -> str:
    """The settings in which a record's protocol differs from the board's."""
    submitted, required = record.config, of_board.config
    differing = [key for key in PROTOCOL if key != "seed" and submitted.get(key) != required.get(key)]
    changes = [f"{key} is {submitted.get(key)}, the board has {required.get(key)}" for key in differing]
    return "; ".join(changes) or "other settings or files"
