"""Commands about boards: leaderboard."""

from __future__ import annotations

import json
import shlex
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from harness.board.submission import RECORDS, problems, read_records
from harness.cli.session import Session
from harness.records.record import Record
from harness.records.workspace import write_atomically
from harness.util.errors import HarnessError


def leaderboard(arguments: Namespace) -> int:
    """Make a board of the records of a workspace; or check one; or add a stranger's records to one."""
    session = Session.open(arguments)
    named = dict(word.split("=", 1) for word in session.overrides)
    if unknown := set(named) - {"workspace", "out"}:
        raise HarnessError(f"'{min(unknown)}=' has no effect here.", "This command takes workspace=DIR and out=DIR.")
    if bool(arguments.words) != arguments.add or len(arguments.words) > 1:
        raise HarnessError("leaderboard: --add, and nothing else, takes one folder of records.",
                           "Example: harness leaderboard --add THEIR_RECORDS/ out=leaderboards/mine")  # fmt: skip
    out = Path(named["out"]).expanduser().absolute() if "out" in named else None
    if arguments.add:
        return _add(session, Path(arguments.words[0]), out or session.workspace.root / "boards")
    return _check(session, out, "workspace" in named) if arguments.check else _make(session, out)


def _make(session: Session, out: Path | None) -> int:
    from harness.board.markdown import markdown
    from harness.board.write import as_data, write_files

    folder = out or session.workspace.root / "boards"
    command = shlex.join(["harness", "leaderboard", *session.overrides])
    records = _of_workspace(session)
    boards = write_files(folder, records, command)
    if out:
        _keep(folder, records)
    session.print(markdown(boards) + f"\nboard: {folder / 'board.html'}", as_data(boards))
    return 0


def _check(session: Session, out: Path | None, workspace: bool) -> int:
    """Against the records of the workspace where it is named, or has the board; else against those beside the board."""
    from harness.board.check import NOT_COMPARED, disagreements, read_board

    folder = out or session.workspace.root / "boards"
    records = _of_workspace(session) if workspace or not out else _of_board(folder)
    found = disagreements(folder, records)
    if read_board(folder).outdated:
        session.note(NOT_COMPARED)
    text = "\n".join(found) if found else f"the board agrees with its {len(records)} records"
    session.print(f"{folder}:\n{text}", {"board": str(folder), "disagreements": found})
    return 1 if found else 0


def _add(session: Session, theirs: Path, folder: Path) -> int:
    """All of their records, or none."""
    from harness.board.check import disagreements, read_board
    from harness.board.write import write_files

    if not theirs.is_dir():
        raise HarnessError(f"{theirs} is no folder.", "Name the one that holds their records, a workspace for example.")
    ours = _of_board(folder)
    if found := disagreements(folder, ours):
        raise HarnessError(
            f"{folder}: the board and its own records disagree: {found[0]}", f"harness leaderboard --check out={folder}"
        )
    records, wrong = read_records(theirs)
    wrong += problems(records, ours, session.registry)
    if not records and not wrong:
        raise HarnessError(f"{theirs} holds no records (record.json, {RECORDS}).", "Name the folder that holds them.")
    for line in wrong:
        session.note(line)
    if wrong:
        session.print(f"nothing was added: {len(wrong)} problem(s), listed above", {"added": 0, "problems": wrong})
        return 2
    known = {record.cell.id for record in ours}
    new = [record for record in records.values() if record.cell.id not in known]  # the others are the same, to the byte
    together = [*ours, *new]
    write_files(folder, together, str(read_board(folder).lineage["command"]))
    _keep(folder, together)
    session.print(f"{len(new)} record(s) added: {folder / 'board.html'}", {"added": len(new), "problems": []})
    return 0


def _of_workspace(session: Session) -> list[Record]:
    records = list(session.workspace.records())
    if not records:
        raise HarnessError(
            f"workspace {session.workspace.root} holds no records.", "Make some: harness run, harness sweep"
        )
    return records


def _of_board(folder: Path) -> list[Record]:
    if not (folder / RECORDS).is_file():
        raise HarnessError(
            f"{folder} holds no {RECORDS}: the records of a board that lies outside its workspace.",
            f"Make it: harness leaderboard workspace=DIR out={folder}",
        )
    records, damaged = read_records(folder)
    if damaged:
        raise HarnessError(f"{folder}: {damaged[0]}", "Restore the file, or make the board again.")
    return list(records.values())


def _keep(folder: Path, records: Sequence[Record]) -> None:
    """The records beside the board, so that it can be checked and added to without its workspace."""
    lines = [
        json.dumps(json.loads(record.as_written()), ensure_ascii=False, separators=(",", ":")) for record in records
    ]
    write_atomically(folder / RECORDS, "\n".join(lines) + "\n")
