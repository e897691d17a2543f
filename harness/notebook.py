"""The harness from Python: it takes the same words as the command line, and returns values instead of cards."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from harness.cells.cell import Cell
from harness.cells.inputs import cache_of
from harness.cells.progress import Progress
from harness.closure.report import ClosureReport
from harness.execution import execute
from harness.pipeline import run_cell
from harness.proposal.proposal import Proposal
from harness.records.record import Record, Status
from harness.records.workspace import Workspace
from harness.registry import plugins
from harness.registry.config import registry, resolve
from harness.util.cache import Memo
from harness.util.errors import HarnessError


def method(stage: str, name: str, **parameters: Any) -> Any:
    """A method of a stage, its parameters checked: ``method("affinity", "ising", l2=0.01)``.

    Errors: an unknown stage, name or parameter; a value that is out of range or of the wrong type.
    """
    return registry().get(stage, name).build(parameters)


def run(*overrides: str) -> Record:
    """Run one cell, as ``harness run``. Its record is kept in the workspace, and a finished one is returned from there.

    Errors: all errors that make the cell invalid.
    """
    cell = _cell(*overrides)
    workspace = Workspace.at(cell.settings.workspace)
    record = execute(cell, workspace, plugins.load(), Memo(disk=cache_of(cell)), Progress(quiet=True))
    if record.status is Status.INVALID:
        raise HarnessError(record.reason)
    return record


def propose(*overrides: str) -> Proposal:
    """The proposal of a cell, as ``harness propose``: partitions, candidates, and each step before.

    No record is kept. Errors: a group named by hand, for which nothing is proposed.
    """
    cell = _cell(*overrides)
    if cell.settings.group:
        raise HarnessError("propose: the group is named by hand, so nothing is proposed.", "Leave out group=...")
    return run_cell(cell, Memo(disk=cache_of(cell)), Progress(quiet=True), test=False).proposals[0]


def close(units: str | Iterable[str], *overrides: str) -> ClosureReport:
    """The closure test of a group, as ``harness close``: ``close("L0H0,L0H7,L1H2", "batch.n=128").verdict``.

    No record is kept. Errors: all errors that make the cell invalid.
    """
    group = units if isinstance(units, str) else ",".join(units)
    cell = _cell(f"group=[{group}]", *overrides)
    return run_cell(cell, Memo(disk=cache_of(cell)), Progress(quiet=True)).record.closure[0]


def _cell(*overrides: str) -> Cell:
    methods = registry()
    return Cell.of(resolve(overrides, methods), methods)
