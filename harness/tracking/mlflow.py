"""The MLflow mirror: a copy of records for browsing. If it fails, the run continues without it."""

from __future__ import annotations

import logging
import os
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from harness.cells.provenance import without_login, without_password
from harness.records.record import Record
from harness.records.workspace import Workspace
from harness.registry.hookspecs import CellFinished, hookimpl
from harness.registry.plugins import Plugins
from harness.tracking import limits, run_view
from harness.tracking.address import DATABASES, TIMEOUT, address, sync_command, unreachable
from harness.tracking.database import prepare
from harness.tracking.location import follow_workspace, new_location
from harness.util.digest import digest, digest_files
from harness.util.errors import HarnessError
from harness.util.waiting import note, said_if_slow

EXPERIMENT = "closure-harness"
# Names the parent run of a sweep for the processes that run its cells. MLFLOW_RUN_ID cannot be used: with it, a child
# run silently becomes the parent (mlflow #15713).
PARENT_VARIABLE = "HARNESS_PARENT_RUN"
NO_PARENT = "none"  # the variable's value if tracking failed for the sweep: cells do not try again
PARENT_TAG = "mlflow.parentRunId"


@dataclass(eq=False)
class Mirror:
    """Copies records to an MLflow tracking store, one run per cell.

    A run has the digest of its record, and everything in it comes from the record. Copying it again changes nothing,
    and an incomplete copy is completed. ``failed``: the store failed, the user was warned, and it is not used again.
    """

    uri: str
    root: Path
    failed: bool = field(default=False, init=False)

    @cached_property
    def client(self) -> Any:
        """MLflow's client for this store, imported at first use because that takes a second."""
        with said_if_slow(f"opening the runs at {without_password(self.uri)} (the first use makes a database)"):
            from mlflow import MlflowClient

            for name in ("alembic", "mlflow"):  # they log "Running upgrade ..." forty times at first use
                logging.getLogger(name).setLevel(logging.WARNING)
            with self._locked():
                if self.uri.startswith(DATABASES):
                    prepare(self.uri)
                return MlflowClient(self.uri)

    @cached_property
    def experiment(self) -> str:
        """The id of the experiment, created at first use. Artifacts of a database are in the workspace.

        Errors: it was deleted by hand; its artifacts are in a folder that does not exist; no MLflow server answers.
        """
        client = self.client
        with self._locked():
            existing = client.get_experiment_by_name(EXPERIMENT)
            if existing is None:
                # A server decides where artifacts go; with a database they would go to the current folder.
                artifacts = new_location(self.uri, self.root) if self.uri.startswith(DATABASES) else None
                existing = client.get_experiment(self._create_experiment(artifacts))
            elif self.uri.startswith(DATABASES):
                follow_workspace(self.uri, self.root, existing.artifact_location)
        if not existing.experiment_id:  # `{}` as an answer to every question
            raise ValueError("not an MLflow server")
        if existing.lifecycle_stage != "active":
            raise HarnessError(
                f"tracking at {without_password(self.uri)}: the experiment {EXPERIMENT} was deleted by hand.",
                f"Restore it: MLFLOW_TRACKING_URI='{without_password(self.uri)}' mlflow experiments restore "
                f"--experiment-id {existing.experiment_id}",
            )
        for tag, value in run_view.experiment_tags().items() - existing.tags.items():
            client.set_experiment_tag(existing.experiment_id, tag, value)
        return str(existing.experiment_id)

    def _create_experiment(self, artifacts: str | None) -> str:
        try:
            return str(self.client.create_experiment(EXPERIMENT, artifacts))
        except Exception:
            existing = self.client.get_experiment_by_name(EXPERIMENT)  # made by another process in this instant
            if existing is None:
                raise
            return str(existing.experiment_id)

    @property
    def how_to_open(self) -> str:
        """What to type or open to see the runs. Empty if the store failed or is on Databricks."""
        if self.failed or self.uri.startswith("databricks"):
            return ""
        if self.uri.startswith(DATABASES):
            page = run_view.page("http://127.0.0.1:5000", self.experiment)
            store = shlex.quote(without_password(self.uri))
            return f"mlflow ui --backend-store-uri {store}, then open {page}"
        return run_view.page(without_login(self.uri).rstrip("/"), self.experiment)

    def _locked(self) -> Any:
        """A lock on a SQLite file: if two processes open a new one at once, both create its tables and one fails."""
        if not self.uri.startswith("sqlite"):
            return nullcontext()
        from filelock import FileLock
        from sqlalchemy import make_url

        path = Path(str(make_url(self.uri).database))
        if not path.parent.is_dir():  # the lock would make the folder, and hide that its name is wrong
            return nullcontext()
        return FileLock(path.with_name(f".{path.name}.lock"))

    @hookimpl
    def harness_cell_finished(self, event: CellFinished) -> None:
        """Copy the record of a cell that has ended."""
        parent = os.environ.get(PARENT_VARIABLE)
        if self.failed or parent == NO_PARENT or self.stopped(parent).exists():
            return
        try:
            self._write(event.record, event.folder, parent)
        except Exception as error:  # a server can fail in any way, and the record is on disk
            self.stop(error, parent)

    def copy_missing(self, records: Iterable[Record], workspace: Workspace, parent: str | None) -> int:
        """Copy the records that have no complete run. Returns their number. Errors: those of the store.

        A run whose parent was deleted gets the new ``parent``. A cell that another process runs is waited for.
        """
        copied = 0
        for record in records:
            folder, cell = workspace.folder(record.cell.id), record.cell.id
            with workspace.locked(cell, lambda cell=cell: note(f"  another process runs cell {cell}; waiting for it")):  # type: ignore[misc]
                runs = self.client.search_runs([self.experiment], f"tags.record = '{_digest(folder)}'")
                if not any(run.info.end_time for run in runs):
                    self._write(record, folder, parent, runs[0].info.run_id if runs else None)
                    copied += 1
            for run in runs:
                if parent and self._is_deleted(run.data.tags.get(PARENT_TAG, parent)):
                    self.client.set_tag(run.info.run_id, PARENT_TAG, parent)
        return copied

    def _is_deleted(self, run: str) -> bool:
        from mlflow.exceptions import MlflowException

        try:
            return str(self.client.get_run(run).info.lifecycle_stage) == "deleted"
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":  # deleted for good: mlflow gc
                return True
            raise

    def _write(self, record: Record, folder: Path, parent: str | None, run: str | None = None) -> None:
        from mlflow.entities import Param

        began, ended = run_view.times(record)
        if run is None:
            tags = run_view.tags(record) | {"record": _digest(folder)}
            run = self._create_run(tags | ({PARENT_TAG: parent} if parent else {}), record.cell.method, began)
        params = [Param(key, value) for key, value in run_view.params(record).items()]
        for start in range(0, len(params), limits.PARAMS_PER_CALL):
            self.client.log_batch(run, params=params[start : start + limits.PARAMS_PER_CALL])
        metrics = run_view.metrics(record)
        for start in range(0, len(metrics), limits.METRICS_PER_CALL):
            self.client.log_batch(run, metrics[start : start + limits.METRICS_PER_CALL])
        if batch := run_view.dataset(record):
            self.client.log_inputs(run, [batch])
        with tempfile.TemporaryDirectory() as artifacts:
            run_view.write_files(record, folder, Path(artifacts))
            self.client.log_artifacts(run, artifacts)
        self.client.set_terminated(run, run_view.run_status(record), ended)

    def _create_run(self, tags: dict[str, str], name: str, began: int | None = None) -> str:
        run = self.client.create_run(self.experiment, began, tags, run_name=limits.text(name, limits.NAME)).info.run_id
        if not run:
            raise ValueError("not an MLflow server")
        return str(run)

    def open_sweep(self, cells: Sequence[str], name: str) -> str:
        """The run that contains the cells of a sweep: a new one, or the earlier one if the sweep is continued."""
        sweep = digest(sorted(cells))
        with Workspace(self.root).locked(f"sweep-{sweep}"):  # the same sweep twice at once has one run
            runs = self.client.search_runs([self.experiment], f"tags.sweep = '{sweep}'")
            if runs:
                self.client.update_run(runs[0].info.run_id, status="RUNNING")
                return str(runs[0].info.run_id)
            command = f"harness sweep {name}".strip()
            tags = {"sweep": sweep, "cells": str(len(cells)), "mlflow.source.name": limits.text(command, limits.TAG)}
            run = self._create_run(tags, command.removeprefix("harness "))
            self.client.log_text(run, command, "command.txt")
            return run

    def close_sweep(self, run: str, records: Sequence[Record], board: Path) -> None:
        """Copy records that are missing, then log the counts by status and the board, and end the run."""
        self.copy_missing(records, Workspace(self.root), run)
        for status in {record.status for record in records}:
            self.client.log_metric(run, f"cells.{status.value}", sum(record.status is status for record in records))
        self.client.set_tag(run, "mlflow.note.content", limits.text(board.read_text(encoding="utf-8"), limits.TAG))
        self.client.log_artifacts(run, str(board.parent))
        self.client.set_terminated(run)

    def stop(self, error: Exception, parent: str | None = None) -> None:
        """Warn once that the store failed, and do not use it any more, in any process of the sweep."""
        if not self.failed:
            print(
                f"warning: {unreachable(self.uri, error)}\n"
                "The records are complete without it. When it works again, copy them:\n"
                f"{sync_command(self.uri, self.root)}",
                file=sys.stderr,
                flush=True,
            )
        self.failed = True
        with suppress(OSError):
            if parent:
                self.stopped(parent).touch()

    def stopped(self, parent: str | None) -> Path:
        """A file that exists while a sweep continues without tracking, since one of its processes found it to fail."""
        return self.root / f".untracked-{parent}"


@contextmanager
def watch(tracking: str, workspace: Workspace, plugins: Plugins) -> Iterator[None]:
    """While the block runs, the record of every cell that ends is copied to tracking."""
    uri = address(tracking, workspace)
    with plugins.watched_by(mirror_of(uri, workspace.root), "mlflow mirror") if uri else nullcontext():
        yield


@contextmanager
def sweep_run(
    tracking: str, workspace: Workspace, cells: Sequence[str], name: str
) -> Iterator[Callable[[Sequence[Record], Path], None]]:
    """A run that contains the cells of a sweep. The block gets a function that ends it, given all records and the
    board.

    This one process creates the run, the experiment and a new database.
    """
    uri = address(tracking, workspace)
    mirror, run = mirror_of(uri, workspace.root) if uri else None, None
    if mirror:
        try:
            run = mirror.open_sweep(cells, name)
            mirror.stopped(run).unlink(missing_ok=True)  # of a killed sweep
        except Exception as error:  # tracking can fail in any way, and the records do not need it
            mirror.stop(error)
    os.environ[PARENT_VARIABLE] = run or NO_PARENT

    def close(records: Sequence[Record], board: Path) -> None:
        if mirror is None or run is None or mirror.failed or mirror.stopped(run).exists():
            return
        try:
            with said_if_slow(f"copying records and board to {without_password(mirror.uri)}"):
                # The run once more: a new one if it was deleted in the meantime.
                mirror.close_sweep(mirror.open_sweep(cells, name), records, board)
        except Exception as error:
            mirror.stop(error)

    try:
        yield close
    except BaseException:
        if mirror and run and not mirror.failed:
            with suppress(Exception):
                mirror.client.set_terminated(run, "KILLED")
        raise
    finally:
        os.environ.pop(PARENT_VARIABLE, None)
        if mirror and run:
            mirror.stopped(run).unlink(missing_ok=True)


@cache
def mirror_of(uri: str, root: Path) -> Mirror:
    """One mirror per store and process, so that all its cells share a client and the experiment."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # stdout is for the answer only
    # No repetition: the first of two calls may have created a run whose answer was late.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(TIMEOUT))
    return Mirror(uri, root)


def _digest(folder: Path) -> str:
    return digest_files(folder / "record.json")
