"""What Hydra runs for every cell of a sweep, in this process or another: it returns a status and never raises."""

from __future__ import annotations

import json
import os
import sys
from functools import cache

from omegaconf import DictConfig

from harness import plugins
from harness.cache import Memo
from harness.cell import Cell
from harness.config import plain, registry
from harness.errors import HarnessError
from harness.pipeline import execute
from harness.plugins import Plugins
from harness.progress import Progress
from harness.record import Record
from harness.tracking import watch
from harness.workspace import Workspace


def job(config: DictConfig) -> str:
    """One cell of a sweep; its answer is the cell's id and status, the truth is its record."""
    cell = Cell.of(plain(config), registry())
    progress = Progress()
    progress.say(f"cell {cell.id}  {cell.title}")
    record = perform(cell, plugins.load(), progress)
    if record.reason:
        progress.say(f"  {record.status.value}: {record.reason}")
    return json.dumps({"cell": cell.id, "status": record.status.value})


def perform(cell: Cell, loaded: Plugins, progress: Progress) -> Record:
    """Run a cell with the tracking mirror watching."""
    workspace = Workspace.at(cell.settings.workspace)
    with watch(cell.settings.tracking, workspace, loaded):
        return execute(cell, workspace, loaded, _memo(), progress)


@cache
def _memo() -> Memo:
    return Memo()


def launch(overrides: list[str]) -> None:
    """Hydra multirun over the overrides; its launchers decide where jobs run."""
    import hydra

    found = sys.argv
    sys.argv = ["harness sweep", "--multirun", *overrides]
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    try:
        hydra.main(version_base="1.3", config_path="pkg://harness_conf", config_name="config")(job)()
    except SystemExit as error:
        raise HarnessError("the sweep could not be launched; Hydra says why above.") from error
    finally:
        sys.argv = found
