"""The command that ablates the group of every model on every model: matrix."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence

from harness.cells.cell import Cell
from harness.cells.settings import NEUTRAL
from harness.cli.cells import exit_code
from harness.cli.session import Session
from harness.cli.words import key_of
from harness.records.record import FINISHED, Record
from harness.records.workspace import Workspace
from harness.registry.command import swept
from harness.util.digest import digest
from harness.util.errors import HarnessError

ON = "on."


def matrix(arguments: Namespace) -> int:
    """Run the cell of every model, then test the group that each proposed on all of them; print and draw the matrix.

    All of them are cells with records: finished ones are not run again.
    """
    from harness.board.matrix import Matrix, groups_of
    from harness.board.matrix_page import FORMS, as_data, as_markdown, write

    session = Session.open(arguments)
    if session.out and session.out.suffix not in FORMS:
        raise HarnessError(f"out={session.out.name}: matrix writes {', '.join(FORMS)}.", "Example: out=matrix.png")
    own, on = session.cells(), _on(session.own)
    _check_models(own)
    session.cells(*on)  # a typo is found before the first cell runs
    workspace = session.workspace_of(own)
    workspace.check_writable()
    proposed = _run(session, workspace, list(session.overrides), own)
    if code := exit_code(proposed, len(own)):
        return code
    groups = groups_of(proposed)
    split = [] if own[0].settings.split == "none" else ["split=test_half"]
    each = swept("group", map(list, groups))
    cells = session.cells(*on, *split, each)
    if len(cells) != len(own) * len(groups):
        raise HarnessError(
            f"matrix: with {' '.join(on)} there are {len(cells)} cells, not one for each of {len(own)} models and "
            f"{len(groups)} groups.",
            "on. sets one value for all models: on.subject.checkpoint=150, on.batch.gap=out",
        )
    records = _run(session, workspace, [*session.overrides, *on, *split, each], cells)
    if code := exit_code(records, len(cells)):
        return code
    tested = [records[place : place + len(groups)] for place in range(0, len(records), len(groups))]
    found = Matrix.of(proposed, tested, session.readable(workspace))
    path = session.out or workspace.root / "matrices" / f"{digest([cell.id for cell in cells])[:12]}.png"
    write(found, path)
    session.print(f"{as_markdown(found)}\nsaved: {path}", {**as_data(found), "saved": str(path)})
    return 0


def _on(own: Sequence[str]) -> list[str]:
    """The overrides of the cells that test. Errors: a word without a key."""
    words = [word for word in own if key_of(word) == "on"]
    for word in words:
        if not word.startswith(ON):
            raise HarnessError(f"'{word}' names no key of the tests.", "Example: on.batch.gap=out")
    return [word.removeprefix(ON) for word in words]


def _run(session: Session, workspace: Workspace, overrides: list[str], cells: Sequence[Cell]) -> list[Record]:
    """The records of cells, in their order; those that are not finished are run by Hydra's launcher, and reported where
    they did not finish."""
    from harness.cli.job import launch

    unfinished = [cell for cell in cells if cell.settings.force or not workspace.finished(cell.id)]
    if unfinished:
        session.note(f"{len(unfinished)} of {len(cells)} cells to run in {workspace.root}")
        launch(overrides, unfinished)
    records = [record for cell in cells if (record := workspace.find(cell.id))]
    for record in records:
        if record.status not in FINISHED:
            session.note(f"{record.status.value}: cell {record.cell.id}  {record.cell.title}\n  {record.reason}")
    return records


def _check_models(cells: Sequence[Cell]) -> None:
    """Errors: one cell; cells that differ in more than their subject."""
    if len(cells) < 2:
        raise HarnessError(
            "matrix compares models, and these overrides describe one.",
            "Name several: subject=tiny_retrieval subject.seed=0,1,2,3",
        )
    first = cells[0].config
    for cell in cells[1:]:
        differing = [
            key
            for key in {**first, **cell.config}
            if key not in {*NEUTRAL, "subject"} and first.get(key) != cell.config.get(key)
        ]
        if differing:
            raise HarnessError(
                f"matrix compares models: these cells differ in {', '.join(differing)} as well.",
                f"Give {differing[0]} one value, or run the command once for each.",
            )
