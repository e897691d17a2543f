"""Records of a stranger: what must be right with them before they may join a board."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from harness.board.references import command
from harness.board.result import task_digest
from harness.board.table import JUDGES, Board, build
from harness.cells.cell import Cell
from harness.closure.report import ClosureReport
from harness.closure.statistics import inflated, p_value
from harness.closure.verdict import decide
from harness.records.record import FINISHED, Record, parse_record
from harness.registry.registry import Registry
from harness.util.errors import HarnessError

RECORDS = "records.jsonl"
"""The records of a board that lies outside its workspace: one line of JSON each."""


def read_records(folder: Path) -> tuple[dict[str, Record], list[str]]:
    """Every record under a folder (``record.json``, ``records.jsonl``) by where it stands, and what cannot be read."""
    records: dict[str, Record] = {}
    problems: list[str] = []
    for path in sorted([*folder.rglob("record.json"), *folder.rglob(RECORDS)]):
        text = path.read_text(encoding="utf-8", errors="replace")
        lines = text.splitlines() if path.name == RECORDS else [text]
        for number, line in enumerate(lines, 1):
            where = str(path.relative_to(folder)) + (f":{number}" if path.name == RECORDS else "")
            try:
                records[where] = parse_record(line, where, "")
            except HarnessError as error:
                problems.append(f"{where}: {error.what}")
    return records, problems


def problems(theirs: Mapping[str, Record], ours: Sequence[Record], registry: Registry) -> list[str]:
    """What is wrong with records that want to join those of a board, by where they stand; nothing: all is right."""
    boards = build(ours)
    cells = [record.cell.id for record in theirs.values()]
    found = [f"{where}: cell {r.cell.id} is given twice" for where, r in theirs.items() if cells.count(r.cell.id) > 1]
    found += [f"{where}: {what}" for where, record in theirs.items() for what in _wrong(record, ours, boards, registry)]
    rows: dict[tuple[str, str], list[Record]] = {}
    for record in theirs.values():
        rows.setdefault((record.cell.protocol, record.cell.row), []).append(record)
    for of in rows.values():
        found += _lacking(of, ours, boards)
    return found


def _wrong(record: Record, ours: Sequence[Record], boards: Sequence[Board], registry: Registry) -> Iterator[str]:
    if record.status not in FINISHED:
        yield f"the cell is {record.status.value} ({record.reason}); run it again: {command(record, record)}"
        return
    if record.config.get("group"):
        yield "its group was named by hand: that is no method"
        return
    alike = [board for board in boards if board.protocol == record.cell.protocol]
    if not alike:
        yield f"it was judged by another protocol ({record.cell.protocol}) than the board: {_other(record, ours)}"
        return
    task = task_digest(record)
    if not any(task == on.digest for board in alike for on in board.tasks):
        names = [on.name for board in alike for on in board.tasks]
        same = record.cell.task in names
        what = "of this name has other examples on the board" if same else f"is none of the board's: {'; '.join(names)}"
        yield f"its task '{record.cell.task}' {what}"
    for mine in ours:
        same = (mine.cell.protocol, mine.cell.row, task_digest(mine)) == (record.cell.protocol, record.cell.row, task)
        if (same or mine.cell.id == record.cell.id) and mine.digest != record.digest:
            yield f"the board has this method on this task already (cell {mine.cell.id}); no record is replaced"
    yield from _identity(record, registry)
    for i, closure in enumerate(record.closure):
        yield from (f"candidate {i + 1}: {what}" for what in _sums(closure, record))


def _identity(record: Record, registry: Registry) -> Iterator[str]:
    """Row and protocol follow from the configuration, where its methods are known here."""
    try:
        cell = Cell.of(record.config, registry)
        told = {"row": cell.row, "protocol": cell.protocol, "method": cell.method}
    except HarnessError:
        return  # a method that is not installed here: it can only be taken at its word
    for name, value in told.items():
        if getattr(record.cell, name) != value:
            yield f"its {name} is '{getattr(record.cell, name)}', but its configuration makes '{value}'"


def _sums(closure: ClosureReport, record: Record) -> Iterator[str]:
    """Whether p and verdict follow from the numbers beside them."""
    for name, effect in closure.effects.items():
        known = effect.controls and closure.inflation is not None
        p = p_value(effect.delta, inflated(effect.controls, closure.inflation or 1.0), effect.damage) if known else None
        if (p is None) != (effect.p is None) or (p is not None and not math.isclose(p, effect.p or 0.0)):
            yield f"{name}: p is {effect.p}, but its {len(effect.controls)} controls make {p}"
        if effect.p is not None and effect.p_adjusted is not None and effect.p_adjusted < effect.p - 1e-12:
            yield f"{name}: corrected p {effect.p_adjusted} is below p {effect.p}"
    verdict, _ = decide(
        closure.effects, float(record.config.get("alpha", 0.05)), closure.selection_p, closure.stopped_early
    )
    if verdict is not closure.verdict:
        yield f"its verdict is {closure.verdict.value}, but its numbers make {verdict.value}"


def _lacking(row: Sequence[Record], ours: Sequence[Record], boards: Sequence[Board]) -> Iterator[str]:
    """Tasks of the board that a row was not judged on, there or here."""
    first = row[0]
    done = {task_digest(record) for record in row if record.status in FINISHED}
    done |= {task_digest(r) for r in ours if (r.cell.protocol, r.cell.row) == (first.cell.protocol, first.cell.row)}
    for board in boards:
        if board.protocol == first.cell.protocol and done & {task.digest for task in board.tasks}:
            for task in board.tasks:
                if task.digest not in done:
                    on = next(record for record in ours if task_digest(record) == task.digest)
                    yield f"{first.cell.method}: no record of task '{task.name}'; run: {command(first, on)}"


def _other(record: Record, ours: Sequence[Record]) -> str:
    """In what a record's protocol differs from the board's."""
    told, board = record.config, ours[0].config
    differ = [key for key in JUDGES if told.get(key) != board.get(key)]
    return "; ".join(f"{key} is {told.get(key)}, the board has {board.get(key)}" for key in differ) or "other code"
