"""Runs a cell and writes its record: every outcome has a status, and errors inside the cell are not raised."""

from __future__ import annotations

import traceback

from harness.cells import result
from harness.cells.cell import Cell
from harness.cells.isolation import interrupts
from harness.cells.progress import Progress
from harness.pipeline import run_cell
from harness.records.reader import parse_record
from harness.records.record import Record, Status
from harness.records.workspace import Workspace, remove_unfinished
from harness.registry.hookspecs import CellFinished
from harness.registry.plugins import Plugins
from harness.util.cache import Memo
from harness.util.errors import HarnessError


def execute(cell: Cell, workspace: Workspace | None, plugins: Plugins, memo: Memo, progress: Progress) -> Record:
    """Run a cell, or return its finished record; if another process runs the cell, wait for its record.

    A method that fails, or that tries to end the process (``sys.exit()``), fails the cell. Ctrl-C ends the cell as
    interrupted and is raised again. Without a workspace the record is only returned: nothing is written, and no watcher
    is called.
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
    trace = ""
    with interrupts() as pressed:
        try:
            outcome = run_cell(cell, memo, progress)
            record = outcome.record
            # Diagnostics that JSON cannot hold, or that the reader refuses, end the cell here, not when it is written.
            parse_record(record.to_json(), cell.id, "One of its methods returned this: its plugin is at fault.")
            if workspace is not None:
                result.write_arrays(outcome, workspace.folder(cell.id))
        except HarnessError as error:
            record = result.unfinished(cell, Status.INVALID, str(error), progress)
        except BaseException as error:  # a method can raise anything: the cell fails, the sweep continues
            if pressed():
                record = result.unfinished(cell, Status.INTERRUPTED, "stopped by the user", progress)
            else:
                trace = traceback.format_exc()
                record = result.unfinished(cell, Status.FAILED, reason_of(error), progress)
        stopped = pressed()
    if workspace is not None:
        folder = workspace.write(record, trace)
        announce(CellFinished(record, folder), plugins, progress)
    if stopped:
        raise KeyboardInterrupt
    return record


def reason_of(error: BaseException) -> str:
    """Why a cell failed: the first line of an error, or that a method ended the process."""
    text = str(error).partition("\n")[0]
    if isinstance(error, SystemExit):
        return f"a method ended the process: sys.exit({text})"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def announce(event: CellFinished, plugins: Plugins, progress: Progress) -> None:
    """Call every watcher. A watcher that fails is reported, and the record stays unchanged."""
    for implementation in plugins.manager.hook.harness_cell_finished.get_hookimpls():
        try:
            implementation.function(**dict.fromkeys(implementation.argnames, event))
        except HarnessError as error:
            progress.warn(f"{implementation.plugin_name}: {error}")
        except (Exception, SystemExit) as error:
            progress.warn(f"{implementation.plugin_name}: {reason_of(error)}")
