"""The commands that write a page about cells, or hold the papers against them: report, claims."""

from __future__ import annotations

from argparse import Namespace

from harness.cli.compare import find
from harness.cli.session import Session
from harness.records.workspace import write_atomically
from harness.util.waiting import said_if_slow


def report(arguments: Namespace) -> int:
    """Cells by (the beginning of) their ids; without ids, all cells of the workspace. ``--paper``: a table instead."""
    from harness.board.paper_tests import our_tests, paper_data, paper_table
    from harness.board.report import report as page

    session = Session.open(arguments)
    if arguments.paper:
        records = session.workspace.records()[0] if session.workspace.root.is_dir() else []
        found = our_tests(records, session.workspace, session.registry)
        session.print(paper_table(found), paper_data(found))
        return 0
    workspace = session.workspace
    records = [find(workspace, word) for word in arguments.words] or session.records()
    name = records[0].cell.id if len(records) == 1 else "cells"
    path = workspace.root / "reports" / f"{name}.html"
    with said_if_slow(f"drawing the page of {len(records)} records"):
        write_atomically(path, page(records, workspace))
    session.print(f"report: {path}", {"report": str(path), "cells": [record.cell.id for record in records]})
    return 0


def claims(arguments: Namespace) -> int:
    """Every claim of the papers that cells can decide, and what those of a workspace say about it."""
    from harness.board.claims.table import as_data, as_text, judged

    session = Session.open(arguments)
    records = session.readable() if session.workspace.root.is_dir() else []
    found = judged(records, session.workspace)
    session.print(as_text(found), as_data(found))
    return 0
