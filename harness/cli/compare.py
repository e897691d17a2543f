"""The command that compares two cells, or two methods: compare."""

from __future__ import annotations

import dataclasses
from argparse import Namespace
from collections.abc import Sequence
from typing import Any

from harness.board.task import distinct
from harness.cli.session import Session
from harness.records.record import Record
from harness.records.workspace import Workspace
from harness.util.errors import HarnessError
from harness.util.paths import expanded


def compare(arguments: Namespace) -> int:
    """Two cells of a workspace, by (the beginning of) their ids, or two methods, by words of their names."""
    from harness.board.compare_cells import cells_text, compare_cells
    from harness.board.compare_groups import compare_groups, groups_text
    from harness.board.compare_methods import compare_methods, methods_text

    if len(arguments.words) != 2:
        raise HarnessError(
            "compare takes two cells or two methods.",
            "Example: harness compare 3f9c a01b (ids: harness plan ...), or "
            "harness compare 'ising spectral' 'ising leiden' (methods: harness leaderboard)",
        )
    session = Session.open(arguments)
    methods = [word for word in arguments.words if not cells_named(session.workspace, word)]
    if len(methods) == 2:
        every = session.readable()
        records = [records_of_method(session.workspace, every, words) for words in methods]
        matched = compare_methods(records[0], records[1], session.workspace)
        session.print(methods_text(matched), dataclasses.asdict(matched))
        return 0
    first, second = (find(session.workspace, word) for word in arguments.words)
    groups = compare_groups(first, second)
    data: dict[str, Any] = {"groups": dataclasses.asdict(groups)}
    try:
        comparison = compare_cells(first, second, session.workspace)
    except HarnessError as error:  # other examples, or nothing tested: only the groups can be compared
        damage, data["not_compared"] = f"damage: not compared: {error}", str(error)
    else:
        damage, data = cells_text(comparison), {**dataclasses.asdict(comparison), **data}
    session.print(f"{groups_text(groups)}\n{damage}", data)
    return 0


def records_of_method(workspace: Workspace, every: Sequence[Record], words: str) -> list[Record]:
    """All records of the one method whose name contains all these words, or is exactly them.

    Methods are told apart by their content: where several have one name, a digest is part of it.
    """
    by_row: dict[str, list[Record]] = {}
    for record in every:
        by_row.setdefault(record.cell.row, []).append(record)
    names = distinct({row: [record.cell.method for record in records] for row, records in by_row.items()})
    by_method = {name: by_row[row] for row, name in names.items()}
    wanted = set(words.split())
    matching = [words] if words in by_method else [name for name in by_method if wanted <= set(name.split())]
    if len(matching) != 1:
        names_shown = "; ".join(sorted(matching or by_method)[:5]) + (" ..." * (len(matching or by_method) > 5))
        what = (
            f"has several: {names_shown}"
            if matching
            else f"has no such cell or method; it has: {names_shown or 'none'}"
        )
        raise HarnessError(
            f"'{words}': workspace {workspace.root} {what}.",
            "Name one method in quotes, by words that no other method has (see harness leaderboard), or a cell by id.",
        )
    return by_method[matching[0]]


def cells_named(workspace: Workspace, start: str) -> list[str]:
    """The cells whose ids begin with these letters, or the cell whose folder or file this is."""
    records = workspace.root / "records"
    where = expanded(start).absolute()
    folder = where.parent if where.name == "record.json" else where
    begins = folder.name if folder.parent == records else start
    return sorted(path.parent.name for path in records.glob("*/record.json") if path.parent.name.startswith(begins))


def find(workspace: Workspace, start: str) -> Record:
    """The record of the one cell whose id begins with these letters."""
    ids = cells_named(workspace, start)
    if len(ids) != 1:
        what = f"is the beginning of {len(ids)} cells" if ids else "is no cell"
        raise HarnessError(
            f"'{start}' {what} of workspace {workspace.root}{': ' if ids else ''}{', '.join(ids[:5])}.",
            "`harness plan ...` lists the ids of cells; they are also the names of the folders in records/.",
        )
    record = workspace.find(ids[0])
    assert record is not None
    return record
