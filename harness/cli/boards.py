"""Commands that show many records together: leaderboard, boards, strata, trajectory, screen, groups, fidelity."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from harness.board.equal_weights import equal_weights, sentence
from harness.board.records_file import RECORDS, has_records, read_records, write_records
from harness.board.submission import problems
from harness.cli.compare import find
from harness.cli.session import Session
from harness.records.record import FINISHED, Record
from harness.registry.command import command, override
from harness.registry.config import search_options
from harness.util.errors import HarnessError
from harness.util.paths import expanded
from harness.util.waiting import said_if_slow


def leaderboard(arguments: Namespace) -> int:
    """Make a board from the records of a workspace, check a board, or add records to it."""
    session = Session.open(arguments)
    if bool(arguments.words) != (arguments.add or arguments.open) or len(arguments.words) > 1:
        raise HarnessError("leaderboard: --add takes one folder of records, --open one number; nothing else is named.",
                           "Example: harness leaderboard --add THEIR_RECORDS/ out=leaderboards/mine")  # fmt: skip
    out = session.out
    if arguments.seal or arguments.open:
        return _seal(session, out or session.workspace.root / "boards", *arguments.words)
    if arguments.add:
        return _add(session, expanded(arguments.words[0]), out or session.workspace.root / "boards")
    return _check(session, out, bool(session.overrides)) if arguments.check else _make(session, out)


def boards(arguments: Namespace) -> int:
    """Compare all boards of a folder: its index.html, and the table in its README.md."""
    from dataclasses import asdict

    from harness.board.overview import as_markdown, write

    session = Session.open(arguments)
    if len(arguments.words) != 1:
        raise HarnessError(
            "boards takes exactly one folder, which holds boards.", "Example: harness boards leaderboards"
        )
    folder = expanded(arguments.words[0])
    found = write(folder)
    data = {"page": str(folder / "index.html"), "boards": [{**asdict(each), "finding": each.finding} for each in found]}
    session.print(f"{as_markdown(found)}\n\npage: {folder / 'index.html'}", data)
    return 0


def strata(arguments: Namespace) -> int:
    """Show what the candidates of all records of a workspace do inside and outside their strata."""
    from harness.board.strata_settings import as_data, as_markdown, settings_of

    session = Session.open(arguments)
    records = session.records()
    settings = settings_of(records)
    for record in records:
        if record.status not in FINISHED:
            ended = f"{record.cell.subject} · {record.cell.method}: {record.status.value}. {record.reason}"
            session.note(f"left out: {record.cell.id}  {ended}".rstrip())
    session.print(as_markdown(settings), as_data(settings))
    return 0


def trajectory(arguments: Namespace) -> int:
    """Follow the classes of units through training: tables, a page and a picture for each model of a workspace."""
    from harness.board.trajectory import trajectories_of
    from harness.board.trajectory_page import as_data, write

    session = Session.open(arguments)
    found = trajectories_of(session.records())
    folder = session.out or session.workspace.root / "trajectory"
    text = write(found, folder)
    session.print(f"{text}\npage: {folder / 'trajectory.html'}", {"page": str(folder / "trajectory.html"),
                                                                "trajectories": as_data(found)})  # fmt: skip
    return 0


def screen(arguments: Namespace) -> int:
    """Show the capability screens of a workspace, beside rankings of equal size, in one table over models."""
    from harness.board.screen import as_data, as_markdown, screened

    session = Session.open(arguments)
    sets = screened(session.records())
    session.print(as_markdown(sets), as_data(sets))
    return 0


def groups(arguments: Namespace) -> int:
    """Describe the groups of all cells of a workspace in one table; of cells that are named, each group as well."""
    from harness.board.groups import about_cell, as_data, as_markdown, described

    session = Session.open(arguments)
    found = described([find(session.workspace, word) for word in arguments.words] or session.records())
    text = "\n\n".join(map(about_cell, found)) if arguments.words else as_markdown(found)
    session.print(text, as_data(found))
    return 0


def fidelity(arguments: Namespace) -> int:
    """Show decompositions at several penalties: a table, and a picture for each target."""
    from harness.board.fidelity import points_of
    from harness.board.fidelity_page import as_data, write

    session = Session.open(arguments)
    points = points_of(session.records())
    folder = session.out or session.workspace.root / "fidelity"
    session.print(
        f"{write(points, folder)}\nsaved: {folder / 'fidelity.md'}", {"saved": str(folder), **as_data(points)}
    )
    return 0


def _make(session: Session, out: Path | None) -> int:
    from harness.board.markdown import markdown
    from harness.board.write import as_data, write_files

    folder = out or session.workspace.root / "boards"
    records = session.records()
    if by_hand := sum(bool(record.config.get("group")) for record in records):
        session.note(f"left out: {by_hand} records of groups that were named by hand")
    for pair in equal_weights(records):
        session.note(f"warning: {sentence(pair)}")
    again = command("leaderboard", *session.overrides, *session.own, *search_options())
    with said_if_slow(f"building the boards of {len(records)} records"):
        boards = write_files(folder, records, again)
    if out:
        write_records(folder, records)
    session.print(markdown(boards) + f"\nboard: {folder / 'board.html'}", as_data(boards))
    return 0


def _check(session: Session, out: Path | None, workspace: bool) -> int:
    """Compare a board with the records of the workspace it is in or that is named, otherwise with those beside it."""
    from harness.board.check import NOT_COMPARED, disagreements, read_board

    folder = out or session.workspace.root / "boards"
    records = session.records() if workspace or not out else _board_records(folder)
    differences = disagreements(folder, records)
    if read_board(folder).outdated:
        session.note(NOT_COMPARED)
    text = "\n".join(differences) if differences else f"the board agrees with its {len(records)} records"
    session.print(f"{folder}:\n{text}", {"board": str(folder), "disagreements": differences})
    return 1 if differences else 0


def _seal(session: Session, folder: Path, word: str = "") -> int:
    """Draw a secret number and show its hash on the board; or show the number that is named on the board."""
    from harness.board.check import disagreements, read_board
    from harness.board.seal import Seal
    from harness.board.write import write_files

    records, board, present = _board_records(folder), read_board(folder), Seal.of(folder)
    if found := disagreements(folder, records):
        raise HarnessError(f"{folder}: the board does not agree with its own records: {found[0]}")
    if word:
        if present is None:
            raise HarnessError(f"{folder} has no seal.", command("leaderboard", "--seal", override("out", folder)))
        if not word.isdecimal():
            raise HarnessError(f"--open {word}: not a whole number.", "Give the one that --seal showed.")
        secret = int(word)
        seal = present.opened(secret)
        after = _with_seed(board.lineage["sweeps"], seal.seed)
    else:
        if present is not None:
            raise HarnessError(f"{folder} has a seal already: {present.hash}.", "It can be opened, not replaced.")
        seal, secret = Seal.drawn()
        after = f"The number is {secret}. It is stored nowhere: keep it, and keep it secret until it is opened."
    seal.write(folder)
    write_files(folder, records, str(board.lineage["command"]), board.added)
    session.print(
        f"{seal.sentence}\n{after}", {"salt": seal.salt, "hash": seal.hash, "secret": secret, "seed": seal.seed}
    )
    return 0


def _with_seed(sweeps: Sequence[str], seed: int | None) -> str:
    """The commands that run the methods of a board with an opened seed."""
    words = f"seed={seed} batch.seed={seed}"
    if not sweeps:
        return f"Run the command of every cell again with: {words}"
    again = "\n".join(f"  {sweep} {words} workspace=runs/sealed" for sweep in sweeps)
    return f"Run its sweeps again with the seed:\n{again}"


def _add(session: Session, submitted: Path, folder: Path) -> int:
    """Add all of their records, or none if one of them is not valid."""
    from harness.board.check import disagreements, read_board
    from harness.board.write import write_files

    if not submitted.is_dir():
        raise HarnessError(
            f"{submitted} is not a folder.", "Name the folder that holds their records, for example a workspace."
        )
    present = _board_records(folder)
    if found := disagreements(folder, present):
        raise HarnessError(
            f"{folder}: the board does not agree with its own records: {found[0]}",
            f"{command('leaderboard', '--check', override('out', folder))} lists every difference.",
        )
    records, wrong = read_records(submitted)
    wrong += problems(records, present, session.registry)
    if not records and not wrong:
        raise HarnessError(
            f"{submitted} holds no records (record.json, {RECORDS}).", "Name the folder that holds them."
        )
    for line in wrong:
        session.note(line)
    if wrong:
        session.print(f"nothing was added: {len(wrong)} problem(s), listed above", {"added": 0, "problems": wrong})
        return 2
    ids = {record.cell.id for record in present}
    new = [record for record in records.values() if record.cell.id not in ids]  # the others are equal, byte for byte
    every, board = [*present, *new], read_board(folder)
    write_files(folder, every, str(board.lineage["command"]), board.added | {record.cell.id for record in new})
    write_records(folder, every)
    session.print(f"{len(new)} record(s) added: {folder / 'board.html'}", {"added": len(new), "problems": []})
    return 0


def _board_records(folder: Path) -> list[Record]:
    if not has_records(folder):
        raise HarnessError(
            f"{folder} holds no {RECORDS}, the file with the records of a board outside its workspace.",
            f"Make it: {command('leaderboard', 'workspace=DIR', override('out', folder))}",
        )
    records, damaged = read_records(folder)
    if damaged:
        raise HarnessError(f"{folder}: {damaged[0]}", "Restore the file, or make the board again.")
    return list(records.values())
