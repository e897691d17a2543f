"""The command that draws how much of a task the first units of a ranking keep: curve."""

from __future__ import annotations

from argparse import Namespace

from harness.cli.session import Session
from harness.util.errors import HarnessError


def curve(arguments: Namespace) -> int:
    """Measure, print and draw the faithfulness curve of every cell of a sweep; cells of one task share a figure."""
    from harness.board.curves import Curves
    from harness.board.curves_page import FORMS, as_data, as_text, write
    from harness.cells.faithfulness import faithfulness_of
    from harness.cells.inputs import Inputs, cache_of
    from harness.pipeline import propose
    from harness.util.cache import Memo

    session = Session.open(arguments)
    if session.out and session.out.suffix not in FORMS:
        raise HarnessError(f"out={session.out.name}: curve writes {', '.join(FORMS)}.", "Example: out=curve.png")
    cells = session.cells()
    workspace = session.workspace_of(cells)
    workspace.check_writable()
    memo = Memo(disk=cache_of(cells[0]))
    found: dict[tuple[str, ...], Curves] = {}
    for cell in cells:
        inputs = Inputs.gather(cell, memo, session.progress(), test=True)
        measured = faithfulness_of(inputs, propose(inputs))
        task = (inputs.subject.label, inputs.examples, cell.describe("intervention"), measured.metric)
        curves = found.setdefault((*task, str(cell.settings.seed)), Curves(" · ".join(task), {}))
        curves.by_method[cell.method] = measured
    if session.out and len(found) > 1:
        raise HarnessError(
            f"out={session.out.name}: these cells are on {len(found)} tasks.", "Leave out=, or draw one."
        )
    paths = []
    for place, curves in enumerate(found.values()):
        path = session.out or workspace.root / "curves" / f"{cells[0].id}{f'-{place}' if place else ''}.png"
        write(curves, path)
        paths.append(path)
    text = "\n".join(f"{as_text(each)}\nsaved: {path}" for each, path in zip(found.values(), paths, strict=True))
    data = [{**as_data(each), "saved": str(path)} for each, path in zip(found.values(), paths, strict=True)]
    session.print(text, data)
    return 0
