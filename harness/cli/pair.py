"""The command that compares two cells: compare."""

from __future__ import annotations

import dataclasses
from argparse import Namespace

from harness.cli.session import Session
from harness.errors import HarnessError
from harness.record import Record
from harness.workspace import Workspace


def compare(arguments: Namespace) -> int:
    """Two cells of a workspace, by (the beginning of) their ids."""
    from harness.board import pair

    if len(arguments.words) != 2:
        raise HarnessError("compare takes two cells.", "Example: harness compare 3f9c a01b (ids: harness plan ...)")
    session = Session.open(arguments)
    session.only_workspace()
    first, second = (find(session.workspace, word) for word in arguments.words)
    found = pair.compare(first, second, session.workspace)
    session.print(pair.text(found), dataclasses.asdict(found))
    return 0


def find(workspace: Workspace, start: str) -> Record:
    """The one record whose cell's id begins so."""
    ids = sorted(path.parent.name for path in (workspace.root / "records").glob(f"{start}*/record.json"))
    if len(ids) != 1:
        what = f"begins {len(ids)} cells: {', '.join(ids[:5])}" if ids else "is no cell"
        raise HarnessError(
            f"'{start}' {what} of workspace {workspace.root}.", "Ids: harness plan ..., or runs/records/"
        )
    record = workspace.find(ids[0])
    assert record is not None
    return record
