"""The job that Hydra runs for every cell of a sweep, in any process. It returns a status and never raises."""

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
from harness.cells.cell import Cell
from harness.cells.inputs import cache_of
from harness.cells.isolation import isolated
from harness.cells.progress import Progress
from harness.cli.words import without_repeats
from harness.execution import execute
from harness.records.record import FINISHED, Record
from harness.records.workspace import Workspace
from harness.registry import plugins
from harness.registry.command import override
from harness.registry.config import by_experiment, config_name, plain, registry, runs_here
from harness.registry.hookspecs import CellFinished
from harness.registry.plugins import Plugins
from harness.tracking.mlflow import watch
from harness.util.cache import Memo
from harness.util.errors import HarnessError

# Names a file: the first cell that fails writes it, and while it exists no other cell starts, in any process.
STOP_VARIABLE = "HARNESS_STOP"
# The folder where the sweep was started. Relative paths start there; a worker process may start elsewhere.
FOLDER_VARIABLE = "HARNESS_FOLDER"
EXTRAS = {"hydra_joblib_launcher": "joblib", "hydra_submitit_launcher": "slurm", "hydra_ray_launcher": "ray"}


def job(config: DictConfig) -> str:
    """Run one cell of a sweep; Hydra's launchers call this."""
    try:
        with chdir(os.environ[FOLDER_VARIABLE]):
            return run_one(Cell.of(plain(config), registry()))
    # Other plugins on that machine, a folder that is not shared, a full disk: no record reports these.
    except (HarnessError, OSError, SystemExit) as error:
        print(f"harness: {error}", file=sys.stderr, flush=True)
        return json.dumps({"status": "no record"})


def run_one(cell: Cell) -> str:
    """Run one cell of a sweep. Returns its id and status as JSON; the result is its record."""
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
    """Run a cell, copy its record to tracking, and undo what its methods changed in this process."""
    workspace = Workspace.at(cell.settings.workspace)
    memo = _memo()
    memo.disk = cache_of(cell)
    picture, folder = AffinityPicture(memo.disk), workspace.folder(cell.id)
    # The record of a process that was killed before it drew.
    undrawn = (folder / "record.json").is_file() and not (folder / "affinity.png").is_file()
    with (
        loaded.watched_by(picture, "affinity picture"),  # before the mirror, which copies it
        watch(cell.settings.tracking, workspace, loaded),
        isolated(cell, memo, progress.warn),
    ):
        record = execute(cell, workspace, loaded, memo, progress)
        if undrawn and not (folder / "affinity.png").is_file():
            try:
                picture.harness_cell_finished(CellFinished(record, folder))
            except HarnessError as error:
                progress.warn(str(error))
        return record


@cache
def _memo() -> Memo:
    return Memo()


def launch(overrides: list[str], cells: Sequence[Cell]) -> None:
    """Run the cells of a sweep by Hydra's multirun, whose launcher decides where.

    With the basic launcher the ``cells`` are run here directly: Hydra would compose each of them twice more, which
    takes longer than a cell whose results are cached.

    A launcher that fails is reported; the cells that it did not run have no record. Errors: a launcher that is not
    installed.
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
            for words in by_experiment([without_repeats(word) for word in overrides]):
                _multirun([*words, override("workspace", str(workspace))])
    finally:
        os.environ.pop(STOP_VARIABLE, None)
        stop.unlink(missing_ok=True)


def _multirun(overrides: list[str]) -> None:
    import hydra

    # Hydra sets these in the job: a worker on another machine does not inherit the environment of this process.
    environment = {name: value for name, value in os.environ.items() if name.startswith("HARNESS_")}
    environment[FOLDER_VARIABLE] = os.getcwd()
    typed, sys.argv = sys.argv, ["harness sweep", "--multirun", *overrides]
    sys.argv += [override(f"++hydra.job.env_set.{name}", value) for name, value in environment.items()]
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")
    try:
        hydra.main(version_base="1.3", config_path="pkg://harness_conf", config_name=config_name())(job)()
    except SystemExit as error:
        raise HarnessError("the sweep could not be launched. Hydra gives the reason above.") from error
    except (
        Exception
    ) as error:  # a launcher that is not installed, a worker that was killed, a cluster that does not answer
        for package, extra in EXTRAS.items():
            if f"'hydra_plugins.{package}" in str(error):
                raise HarnessError(
                    f"hydra/launcher: {package.replace('_', '-')} is not installed.",
                    f"pip install 'closure-harness[{extra}]'",
                ) from error
        print(
            f"harness: the launcher failed: {type(error).__name__}: {str(error).partition(chr(10))[0]}\n"
            "Finished cells are kept; the same command continues with the others.",
            file=sys.stderr,
        )
    finally:
        sys.argv = typed
