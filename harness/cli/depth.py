"""The command that holds the routing mass of depth routes against their causal effect: depth."""

from __future__ import annotations

from argparse import Namespace

from harness.cli.session import Session


def depth(arguments: Namespace) -> int:
    """Measure mass and effect of every source in every model of a sweep; write tables, data and a picture."""
    from harness.board.depth import DepthRouting
    from harness.board.depth_page import as_data, write
    from harness.cells.inputs import Inputs, cache_of
    from harness.cells.route_effects import RouteEffects
    from harness.util.cache import Memo

    session = Session.open(arguments)
    cells = session.cells()
    workspace = session.workspace_of(cells)
    workspace.check_writable()
    memo = Memo(disk=cache_of(cells[0]))
    models = {cell.describe("subject"): cell for cell in cells}  # proposing methods make no difference here
    found = DepthRouting.of(
        [RouteEffects.measure(Inputs.gather(cell, memo, session.progress(), test=True)) for cell in models.values()]
    )
    folder = session.out or workspace.root / "depth"
    text = write(found, folder)
    session.print(f"{text}\nsaved: {folder}", {**as_data(found), "saved": str(folder)})
    return 0
