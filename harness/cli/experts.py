"""The command that surveys the experts of a mixture: experts."""

from __future__ import annotations

from argparse import Namespace

from harness.cli.session import Session
from harness.util.errors import HarnessError


def experts(arguments: Namespace) -> int:
    """Print and draw what the experts of a cell's subject do, and whether specialisation predicts importance."""
    from harness.board.experts import FORMS, as_data, as_markdown, write
    from harness.cells.expert_survey import ExpertSurvey
    from harness.cells.inputs import Inputs, cache_of
    from harness.util.cache import Memo

    session = Session.open(arguments)
    if session.out and session.out.suffix not in FORMS:
        raise HarnessError(f"out={session.out.name}: experts writes {', '.join(FORMS)}.", "Example: out=experts.png")
    cell = session.cell()
    workspace = session.workspace_of([cell])
    workspace.check_writable()
    survey = ExpertSurvey.measure(Inputs.gather(cell, Memo(disk=cache_of(cell)), session.progress(), test=True))
    path = session.out or workspace.root / "experts" / f"{cell.id}.png"
    write(survey, path)
    session.print(f"{as_markdown(survey)}\nsaved: {path}", {**as_data(survey), "saved": str(path)})
    return 0
