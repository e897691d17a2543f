"""The command that ablates the group of every model on every model: matrix."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence

from harness.cells.cell import Cell
from harness.cells.settings import NEUTRAL
from harness.cli.session import Session
from harness.records.record import Record
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
    own = session.cells()
    _check_models(own)
    workspace = session.workspace_of(own)
    workspace.check_writable()
    proposed = _run(session, workspace, list(session.overrides), own)
    groups = groups_of(proposed)
    on = [word.removeprefix(ON) for word in session.own if word.startswith(ON)]
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
    tested = [records[place : place + len(groups)] for place in range(0, len(records), len(groups))]
    found = Matrix.of(proposed, tested, session.readable(workspace))
    path = session.out or workspace.root / "matrices" / f"{digest([cell.id for cell in cells])[:12]}.png"
    write(found, path)
    session.print(f"{as_markdown(found)}\nsaved: {path}", {**as_data(found), "saved": str(path)})
    return 0


def _run(session: Session, workspace: Workspace, overrides: list[str], cells: Sequence[Cell]) -> list[Record]:
    """The records of cells, in their order; those that are not finished are run by Hydra's launcher.

    Errors: a cell without a record, or one that did not finish.
    """
    from harness.cli.job import launch

    unfinished = [cell for cell in cells if cell.settings.force or not workspace.finished(cell.id)]
    if unfinished:
        session.note(f"{len(unfinished)} of {len(cells)} cells to run in {workspace.root}")
        launch(overrides, unfinished)
    records = []
    for cell in cells:
        record = workspace.find(cell.id)
        if record is None or not workspace.finished(cell.id):
            why = "it has no record" if record is None else f"{record.status.value}: {record.reason}"
            raise HarnessError(f"cell {cell.id} ({cell.title}) did not finish: {why}")
        records.append(record)
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
