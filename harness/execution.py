"""Runs a cell and writes its record: every outcome has a status, and errors inside the cell are not raised."""

from __future__ import annotations

import traceback

from harness.cells import result
from harness.cells.cell import Cell
from harness.cells.progress import Progress
from harness.pipeline import run_cell
from harness.records.reader import parse_record
from harness.records.record import Record, Status
from harness.records.workspace import Workspace
from harness.registry.hookspecs import CellFinished
from harness.registry.plugins import Plugins
from harness.util.cache import Memo
from harness.util.errors import HarnessError


def execute(cell: Cell, workspace: Workspace | None, plugins: Plugins, memo: Memo, progress: Progress) -> Record:
    """Run a cell, or return its finished record. Ctrl-C ends the cell as interrupted and is raised again.

    Without a workspace the record is only returned: nothing is written, and no watcher is called.
    """
    if workspace is not None and not cell.settings.force and (finished := workspace.finished(cell.id)):
        progress.say(f"  done already: {workspace.folder(cell.id)}")
        return finished
    interrupt: KeyboardInterrupt | None = None
    trace = ""
    try:
        outcome = run_cell(cell, memo, progress)
        record = outcome.record
        # Diagnostics that JSON cannot hold, or that the reader refuses, end the cell here, not when it is written.
        parse_record(record.to_json(), cell.id, "One of its methods returned this: its plugin is at fault.")
        if workspace is not None:
            result.write_arrays(outcome, workspace.folder(cell.id))
    except HarnessError as error:
        record = result.unfinished(cell, Status.INVALID, str(error), progress)
    except KeyboardInterrupt as error:
        interrupt, record = error, result.unfinished(cell, Status.INTERRUPTED, "stopped by the user", progress)
    except Exception as error:  # a method's own failure: the cell fails, the sweep continues
        trace = traceback.format_exc()
        reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        record = result.unfinished(cell, Status.FAILED, reason, progress)
    if workspace is not None:
        folder = workspace.write(record, trace)
        announce(CellFinished(record, folder), plugins, progress)
    if interrupt:
        raise interrupt
    return record


def announce(event: CellFinished, plugins: Plugins, progress: Progress) -> None:
    """Call every watcher. A watcher that fails is reported, and the record stays unchanged."""
    for implementation in plugins.manager.hook.harness_cell_finished.get_hookimpls():
        try:
            implementation.function(**dict.fromkeys(implementation.argnames, event))
        except Exception as error:
            progress.warn(f"{implementation.plugin_name}: {type(error).__name__}: {error}")
