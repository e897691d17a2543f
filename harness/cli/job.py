"""What Hydra runs for every cell of a sweep, in this process or another: it returns a status and never raises."""

from __future__ import annotations

import json
import os
import sys
import uuid
from collections.abc import Sequence
from contextlib import chdir
from functools import cache
from pathlib import Path

from omegaconf import DictConfig

from harness.board.picture import AffinityPicture
from harness.cells.cell import Cell, as_override
from harness.cells.inputs import cache_of
from harness.cells.isolation import isolated
from harness.cells.progress import Progress
from harness.execution import execute
from harness.records.record import FINISHED, Record
from harness.records.workspace import Workspace
from harness.registry import plugins
from harness.registry.config import plain, registry, runs_here
from harness.registry.plugins import Plugins
from harness.tracking.mlflow import watch
from harness.util.cache import Memo
from harness.util.errors import HarnessError

# A file that the first cell to fail leaves, and that keeps the others from starting, wherever they would run.
STOP_VARIABLE = "HARNESS_STOP"
# Where the sweep was started: relative paths are meant from there, and a worker may begin anywhere.
FOLDER_VARIABLE = "HARNESS_FOLDER"
EXTRAS = {"hydra_joblib_launcher": "joblib", "hydra_submitit_launcher": "slurm", "hydra_ray_launcher": "ray"}


def job(config: DictConfig) -> str:
    """One cell of a sweep, as a launcher of Hydra's calls it."""
    try:
        with chdir(os.environ[FOLDER_VARIABLE]):
            return run_one(Cell.of(plain(config), registry()))
    except (HarnessError, OSError) as error:  # other plugins there, a folder not shared, a full disk: no record says so
        print(f"harness: {error}", file=sys.stderr, flush=True)
        return json.dumps({"status": "no record"})


def run_one(cell: Cell) -> str:
    """One cell of a sweep; its answer is the cell's id and status, the truth is its record."""
    progress, stop = Progress(), os.environ.get(STOP_VARIABLE)
    if stop and Path(stop).exists():
        return json.dumps({"cell": cell.id, "status": "not run"})
    progress.say(f"cell {cell.id}  {cell.title}")
    record = perform(cell, plugins.load(), progress)
    if record.reason:
        progress.say(f"  {record.status.value}: {record.reason}")
    if stop and record.status not in FINISHED:
        Path(stop).touch()
    return json.dumps({"cell": cell.id, "status": record.status.value})


def perform(cell: Cell, loaded: Plugins, progress: Progress) -> Record:
    """Run a cell with the tracking mirror watching, and what it left behind in this process put right."""
    workspace = Workspace.at(cell.settings.workspace)
    memo = _memo()
    memo.disk = cache_of(cell)
    with (
        loaded.watched_by(AffinityPicture(memo.disk), "affinity picture"),  # before the mirror, which copies it
        watch(cell.settings.tracking, workspace, loaded),
        isolated(cell, memo, progress.say),
    ):
        return execute(cell, workspace, loaded, memo, progress)


@cache
def _memo() -> Memo:
    return Memo()


def launch(overrides: list[str], cells: Sequence[Cell]) -> None:
    """Hydra multirun over the overrides; its launchers decide where jobs run.

    Where that is here, one after the other, the ``cells`` they make are run as they are: Hydra would compose each of
    them twice more, which takes longer than a cell whose results are known.

    One that breaks down is said: what it did not run has no record. Errors: a launcher that is not installed.
    """
    workspace = Workspace.at(cells[0].settings.workspace).root
    stop = workspace / f".stop-{uuid.uuid4().hex}"
    if cells[0].settings.on_error == "stop":
        os.environ[STOP_VARIABLE] = str(stop)
    try:
        if runs_here(overrides):
            for cell in cells:
                run_one(cell)
        else:
            _multirun([*overrides, f"workspace={as_override(str(workspace))}"])
    finally:
        os.environ.pop(STOP_VARIABLE, None)
        stop.unlink(missing_ok=True)


def _multirun(overrides: list[str]) -> None:
    import hydra

    # Hydra sets these where the job runs: a worker on another machine inherits no environment from this process.
    told = {name: value for name, value in os.environ.items() if name.startswith("HARNESS_")}
    told[FOLDER_VARIABLE] = os.getcwd()
    found, sys.argv = sys.argv, ["harness sweep", "--multirun", *overrides]
    sys.argv += [f"++hydra.job.env_set.{name}={as_override(value)}" for name, value in told.items()]
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    try:
        hydra.main(version_base="1.3", config_path="pkg://harness_conf", config_name="config")(job)()
    except SystemExit as error:
        raise HarnessError("the sweep could not be launched; Hydra says why above.") from error
    except Exception as error:  # a launcher that is not there, a worker that was killed, a cluster that does not answer
        for package, extra in EXTRAS.items():
            if f"'hydra_plugins.{package}" in str(error):
                raise HarnessError(
                    f"hydra/launcher: {package.replace('_', '-')} is not installed.",
                    f"pip install 'closure-harness[{extra}]'",
                ) from error
        print(
            f"harness: the launcher broke down: {type(error).__name__}: {str(error).partition(chr(10))[0]}\n"
            "Finished cells are kept, and the same command goes on from there.",
            file=sys.stderr,
        )
    finally:
        sys.argv = found
