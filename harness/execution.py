"""Runs a cell and writes its record: every outcome has a status, and errors inside the cell are not raised."""

from __future__ import annotations

import traceback

from harness.cells import result
from harness.cells.cell import Cell
from harness.cells.progress import Progress
from harness.pipeline import run_cell
from harness.records.record import Record, Status
from harness.records.workspace import Workspace, remove_unfinished
from harness.registry.hookspecs import CellFinished
from harness.registry.plugins import Plugins
from harness.util.cache import Memo
from harness.util.errors import HarnessError


def execute(cell: Cell, workspace: Workspace | None, plugins: Plugins, memo: Memo, progress: Progress) -> Record:
    """Run a cell, or return its finished record; if another process runs the cell, wait for its record.

    Ctrl-C ends the cell as interrupted and is raised again.
    Without a workspace the record is only returned: nothing is written, and no watcher is called.
    """
    if workspace is None:
        return _execute(cell, None, plugins, memo, progress)
    with workspace.locked(cell.id, lambda: progress.say("  another process runs this cell; waiting for its result")):
        remove_unfinished(workspace.folder(cell.id))
        if not cell.settings.force and (finished := workspace.finished(cell.id)):
            progress.say(f"  done already: {workspace.folder(cell.id)}")
            return finished
        return _execute(cell, workspace, plugins, memo, progress)


def _execute(cell: Cell, workspace: Workspace | None, plugins: Plugins, memo: Memo, progress: Progress) -> Record:
    interrupt: KeyboardInterrupt | None = None
    trace = ""
    try:
        outcome = run_cell(cell, memo, progress)
        record = outcome.record
        record.to_json()  # diagnostics that JSON cannot hold fail the cell here, not when it is written
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
        except HarnessError as error:
            progress.warn(f"{implementation.plugin_name}: {error}")
        except Exception as error:
            progress.warn(f"{implementation.plugin_name}: {type(error).__name__}: {error}")
