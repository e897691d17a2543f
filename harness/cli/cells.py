"""Commands that run cells: run, sweep, propose, close, plan."""

from __future__ import annotations

import json
from argparse import Namespace
from collections import Counter
from collections.abc import Sequence

from harness.cell import Cell
from harness.cli.session import Session, lines
from harness.errors import HarnessError
from harness.record import FINISHED, Record, Status

EXIT = {Status.OK: 0, Status.SKIPPED: 0, Status.INVALID: 2, Status.FAILED: 1, Status.INTERRUPTED: 130}


def run(arguments: Namespace) -> int:
    """One cell, its card, its exit code."""
    session = Session.open(arguments)
    return _one(session, session.cell())


def close(arguments: Namespace) -> int:
    """The closure test of a group named by hand."""
    if not arguments.words:
        raise HarnessError("close: name the units of the group.", "Example: harness close L5H0,L5H1 subject=tiny")
    units = ",".join(arguments.words)
    session = Session.open(arguments)
    return _one(session, session.cell(f"group=[{units}]"))


def propose(arguments: Namespace) -> int:
    """Groups and candidates, without ablation; nothing is kept."""
    from harness.board.card import card
    from harness.cache import Memo
    from harness.pipeline import run_cell

    session = Session.open(arguments)
    record = run_cell(session.cell(), Memo(), session.progress(), test=False).record
    print(record.to_json() if session.json else card(record))
    return 0


def sweep(arguments: Namespace) -> int:
    """A grid of cells through Hydra's multirun; cards as cells end, the board at the end."""
    from harness.board.card import card
    from harness.board.write import markdown, write_boards
    from harness.cli.job import launch
    from harness.tracking import address, parent_run

    session = Session.open(arguments)
    cells = session.cells()  # every cell is built once before the first one runs: a typo costs seconds, not a night
    workspace = session.workspace_of(cells)
    workspace.check_writable()
    for cell in cells:
        if not cell.settings.force:
            workspace.find(cell.id)  # a damaged record is the user's business now, not in the middle of the night
    session.note(f"{len(cells)} cells in {workspace.root}")
    with parent_run(cells[0].settings.tracking, workspace, " ".join(session.overrides), session.note):
        launch(list(session.overrides))
    records = [record for cell in cells if (record := workspace.find(cell.id))]
    boards, path = write_boards(workspace)
    for record in records:
        session.note("\n" + card(record))
    counts = Counter(record.status for record in records)
    summary = ", ".join(f"{n} {status.value}" for status, n in counts.items())
    session.note(
        f"\n{len(cells)} cells: {summary}" + (f", {n} without a record" if (n := len(cells) - len(records)) else "")
    )
    uri = address(cells[0].settings.tracking, workspace)
    data = {"board": str(path), "cells": [json.loads(record.to_json()) for record in records]}
    session.print(
        f"{markdown(boards)}\nboard: {path}\nnext: harness run --help · harness list · {_tracking_hint(uri)}", data
    )
    return _worst(records, len(cells))


def plan(arguments: Namespace) -> int:
    """The cells of a sweep, and what of them is done; leaves no file."""
    session = Session.open(arguments)
    cells = session.cells()
    workspace = session.workspace_of(cells)
    found = [workspace.find(cell.id) for cell in cells]
    rows = [
        (cell.id, record.status.value if record else "to do", cell.title)
        for cell, record in zip(cells, found, strict=True)
    ]
    done = sum(record is not None and record.status in FINISHED for record in found)
    text = (
        lines(rows, "") + f"\n{len(cells)} cells, {done} done, {len(cells) - done} to do (workspace {workspace.root})"
    )
    session.print(text, [dict(zip(("cell", "status", "title"), row, strict=True)) for row in rows])
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


def _worst(records: Sequence[Record], expected: int) -> int:
    codes = {EXIT[record.status] for record in records} | ({1} if len(records) < expected else set())
    return next((code for code in (130, 1, 2) if code in codes), 0)


def _tracking_hint(uri: str | None) -> str:
    return f"mlflow ui --backend-store-uri {uri}" if uri else "tracking=local keeps an MLflow mirror"
