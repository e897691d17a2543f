"""Commands that run cells: run, sweep, propose, close, plan."""

from __future__ import annotations

import json
from argparse import Namespace
from collections import Counter
from collections.abc import Sequence

from harness.cells.cell import Cell
from harness.cells.provenance import without_password
from harness.cli.session import Session, units_of
from harness.records.record import FINISHED, Record, Status
from harness.records.workspace import Workspace, remove_unfinished
from harness.registry.command import override
from harness.util.errors import HarnessError
from harness.util.waiting import said_if_slow

EXIT = {Status.OK: 0, Status.SKIPPED: 0, Status.INVALID: 2, Status.FAILED: 1, Status.INTERRUPTED: 130}


def run(arguments: Namespace) -> int:
    """Run one cell and print its card."""
    session = Session.open(arguments)
    return _one(session, session.cell())


def close(arguments: Namespace) -> int:
    """Run the closure test of a group that the user names."""
    units = units_of(arguments.words)
    if not units:
        raise HarnessError("close needs the units of a group.", "Example: harness close L5H0,L5H1 subject=tiny")
    session = Session.open(arguments)
    return _one(session, session.cell(override("group", units)))


def propose(arguments: Namespace) -> int:
    """Print groups and candidates without ablation. No record is written."""
    from harness.board.card import card
    from harness.cells.inputs import cache_of
    from harness.pipeline import run_cell
    from harness.util.cache import Memo

    session = Session.open(arguments)
    cell = session.cell()
    record = run_cell(cell, Memo(disk=cache_of(cell)), session.progress(), test=False).record
    print(record.to_json() if session.json else card(record))
    return 0


def sweep(arguments: Namespace) -> int:
    """Run a grid of cells through Hydra's multirun; then print their cards and the board."""
    from harness.board.card import card
    from harness.board.markdown import markdown
    from harness.board.write import write_boards
    from harness.cli.job import launch
    from harness.tracking.mlflow import sweep_run

    session = Session.open(arguments)
    cells = session.cells()  # every cell is built before the first one runs: a typo is found in seconds
    workspace = session.workspace_of(cells)
    workspace.check_writable()
    for cell in cells:
        if not cell.settings.force:
            workspace.find(cell.id)  # a damaged record is an error now, not hours later
    session.note(f"{len(cells)} cells in {workspace.root}")
    name = without_password(" ".join(session.overrides))
    with sweep_run(cells[0].settings.tracking, workspace, [cell.id for cell in cells], name) as mirror:
        launch(list(session.overrides), cells)
        records = [record for cell in cells if (record := workspace.find(cell.id))]
        # One process at a time: the board of one that began to read earlier would lack the other's last cells.
        with said_if_slow("building the boards"), workspace.locked("boards"):
            remove_unfinished(workspace.root / "boards")
            boards, path = write_boards(workspace, session.readable(workspace))
        mirror(records, path)
    for record in records:
        session.note("\n" + card(record))
    failed = [record for record in records if record.status not in FINISHED]
    counts = Counter(record.status.value for record in records) + Counter({"not run": len(cells) - len(records)})
    lines = (
        f"\n{record.status.value}: cell {record.cell.id}  {record.cell.title}\n  {record.reason}" for record in failed
    )
    session.note("".join(lines))
    session.note(f"{len(cells)} cells: {', '.join(f'{n} {status}' for status, n in counts.items())}")
    data = {"board": str(path), "cells": [json.loads(record.to_json()) for record in records]}
    more = _where_runs_are(cells[0].settings.tracking, workspace)
    session.print(f"{markdown(boards)}\nboard: {path}\n{more}next: harness run --help · harness list", data)
    return exit_code(records, len(cells))


def plan(arguments: Namespace) -> int:
    """List the cells of a sweep, which are done, and the cost of the rest. Writes no file and loads no model.

    It takes the words of ``run``, ``sweep`` and ``close``, with or without the name of that command.
    """
    from harness.cli.forecast import rows_of, text_of, to_do
    from harness.forecast.estimate import estimate
    from harness.forecast.machine import here
    from harness.forecast.steps import Measured

    session = Session.open(arguments)
    names = arguments.words[1:] if arguments.words[:1] in (["run"], ["sweep"], ["close"]) else arguments.words
    group = [override("group", units)] if (units := units_of(names)) else []
    cells = session.cells(*group)
    workspace = session.workspace_of(cells)
    every = session.readable(workspace)
    by_cell = {record.cell.id: record for record in every}
    records = [None if cell.settings.force else by_cell.get(cell.id) for cell in cells]
    machine = here()
    measured = Measured.of(record for record in every if not to_do(record))
    estimates = [
        estimate(cell, machine, measured) if to_do(record) else None
        for cell, record in zip(cells, records, strict=True)
    ]
    unfinished = sum(map(to_do, records))
    counts = f"{len(cells)} cells, {len(cells) - unfinished} done, {unfinished} to do (workspace {workspace.root})"
    text = f"{text_of(cells, records, estimates, machine)}\n{counts}"
    session.print(text, rows_of(cells, records, estimates))
    return 0


def _one(session: Session, cell: Cell) -> int:
    from harness.board.card import card
    from harness.cli.job import perform

    workspace = session.workspace_of([cell])
    workspace.check_writable()
    progress = session.progress()
    progress.say(f"cell {cell.id}  {cell.title}")
    record = perform(cell, session.plugins, progress)
    if record.status is Status.INVALID:
        raise HarnessError(record.reason)
    print(record.to_json() if session.json else card(record, workspace.folder(cell.id)))
    return EXIT[record.status]


def exit_code(records: Sequence[Record], expected: int) -> int:
    """Of a command that ran cells: 0, or that of the worst record; 1 where records are missing."""
    codes = {EXIT[record.status] for record in records} | ({1} if len(records) < expected else set())
    return next((code for code in (130, 1, 2) if code in codes), 0)


def _where_runs_are(tracking: str, workspace: Workspace) -> str:
    """A line that says how to see the runs in MLflow; empty where tracking failed."""
    from harness.tracking.address import address
    from harness.tracking.mlflow import mirror_of

    uri = address(tracking, workspace)
    where = mirror_of(uri, workspace.root).how_to_open if uri else "tracking=local copies records to MLflow"
    return f"runs: {where}\n" if where else ""
