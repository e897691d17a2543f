"""The command that maps what every unit does alone: map."""

from __future__ import annotations

import shutil
from argparse import Namespace

from harness.cells.cell import Cell
from harness.cells.progress import Progress
from harness.cells.unit_damage import UnitDamage
from harness.cli.compare import find
from harness.cli.session import Session
from harness.cli.words import key_of
from harness.records.workspace import Workspace
from harness.util.errors import HarnessError


def map_units(arguments: Namespace) -> int:
    """Print and draw what every unit of a cell does alone. The cell is described by overrides, or finished already."""
    from harness.board.damage_map import FORMS, as_data, as_text, write

    session = Session.open(arguments)
    if session.out and session.out.suffix not in FORMS:
        raise HarnessError(f"out={session.out.name}: map writes {', '.join(FORMS)}.", "Example: out=map.png")
    workspace, name, damage = _finished(session, arguments.words) if arguments.words else _described(session)
    path = session.out or workspace.root / "maps" / f"{name}.png"
    write(damage, path)
    width = shutil.get_terminal_size(fallback=(120, 24)).columns
    session.print(f"{as_text(damage, width)}\nsaved: {path}", {**as_data(damage), "saved": str(path)})
    return 0


def _described(session: Session) -> tuple[Workspace, str, UnitDamage]:
    cell = session.cell()
    workspace = session.workspace_of([cell])
    workspace.check_writable()
    return workspace, cell.id, _measured(cell, session.progress())


def _finished(session: Session, words: list[str]) -> tuple[Workspace, str, UnitDamage]:
    """The map of a record; it is measured where the record lacks units, because its test did not need them."""
    for word in session.overrides:
        if key_of(word) != "workspace":
            raise HarnessError(
                f"'{word}' has no effect here.",
                "A cell has its configuration: leave out one of them.",
            )
    if len(words) != 1:
        raise HarnessError("map takes one cell.", "Example: harness map 3f9c, or harness map subject=tiny")
    record = find(session.workspace, words[0])
    damage = UnitDamage.of(record)
    if damage and damage.complete:
        return session.workspace, record.cell.id, damage
    config = {**record.config, "workspace": str(session.workspace.root)}
    return session.workspace, record.cell.id, _measured(Cell.of(config, session.registry), session.progress())


def _measured(cell: Cell, progress: Progress) -> UnitDamage:
    from harness.cells.inputs import Inputs, cache_of
    from harness.util.cache import Memo

    return UnitDamage.measure(Inputs.gather(cell, Memo(disk=cache_of(cell)), progress, test=True))
