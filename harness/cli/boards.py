"""Commands about boards: leaderboard."""

from __future__ import annotations

import dataclasses
from argparse import Namespace

from harness.cli.session import Session
from harness.errors import HarnessError


def leaderboard(arguments: Namespace) -> int:
    """Rebuild the board from the records of a workspace."""
    from harness.board.write import markdown, write_boards

    session = Session.open(arguments)
    session.only_workspace()
    workspace = session.workspace
    records = list(workspace.records())
    if not records:
        raise HarnessError(f"workspace {workspace.root} holds no records.", "Make some: harness run, harness sweep")
    boards, path = write_boards(workspace, records)
    session.print(markdown(boards) + f"\nboard: {path}", [dataclasses.asdict(board) for board in boards])
    return 0
