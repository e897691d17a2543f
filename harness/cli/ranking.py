"""The command that holds rankings of units against their classes: ranking."""

from __future__ import annotations

from argparse import Namespace

from harness.cells.cell import Cell
from harness.cli.session import Session
from harness.data.importances import as_importances
from harness.data.stages import inputs_of
from harness.records.workspace import write_atomically
from harness.util.errors import HarnessError


def ranking(arguments: Namespace) -> int:
    """Rank the units by every signal of a sweep, on the examples proposed on, and compare with the labels.

    ``out``: the scores of a single signal as importances of MIB, which ``signal=precomputed`` reads.
    """
    from harness.board.rankings import Rankings, as_data, as_text
    from harness.cells.inputs import Inputs, cache_of
    from harness.data.ranking import Ranking
    from harness.pipeline import proposal_of
    from harness.util.cache import Memo
    from harness.util.threads import one_thread

    session = Session.open(arguments)
    cells = session.cells()
    for cell in cells:
        _check(cell)
    if session.out and (len(cells) > 1 or session.out.suffix != ".json"):
        raise HarnessError(
            f"out={session.out.name}: ranking writes the scores of one signal as .json.",
            "Example: out=importances.json",
        )
    session.workspace_of(cells).check_writable()
    memo = Memo(disk=cache_of(cells[0]))
    found: dict[tuple[str, ...], Rankings] = {}
    for cell in cells:
        inputs = Inputs.gather(cell, memo, session.progress(), test=False)
        proposal = proposal_of(inputs)
        task = (inputs.subject.label, inputs.examples, cell.describe("labels"))
        with one_thread():
            labels = proposal.labels
            rankings = found.setdefault(task, Rankings(" · ".join(task), labels, {}))
            signal = cell.describe("signal")
            rankings.by_signal[signal] = Ranking.of(proposal.scores, labels)
            if session.out:
                write_atomically(session.out, as_importances(labels.units, proposal.scores.values))
                session.note(f"saved: {session.out}")
            if history := inputs.history() if "history" in inputs_of(type(cell.stages["signal"])) else None:
                by_unit = proposal.measured.values.T.tolist()
                rankings.over_training[signal] = {
                    unit: dict(zip(history.steps, values, strict=True))
                    for unit, values in zip(labels.units.labels, by_unit, strict=True)
                }
    session.print("\n".join(as_text(each) for each in found.values()), [as_data(each) for each in found.values()])
    return 0


def _check(cell: Cell) -> None:
    if "signal" not in cell.proposing:
        by = "a group that is named by hand" if cell.settings.group else f"partitioner {cell.describe('partitioner')}"
        raise HarnessError(
            f"ranking: {by} uses no signal.", "Leave it out: only the signal and the labels matter here."
        )
