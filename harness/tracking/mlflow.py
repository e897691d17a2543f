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
from harness.tracking import run_view
from harness.util.digest import digest, digest_files
from harness.util.errors import HarnessError

EXPERIMENT = "closure-harness"
# Names the parent run of a sweep for the processes that run its cells. MLFLOW_RUN_ID cannot be used: with it, a child
# run silently becomes the parent (mlflow #15713).
PARENT_VARIABLE = "HARNESS_PARENT_RUN"
NO_PARENT = "none"  # the variable's value if tracking failed for the sweep: cells do not try again
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
PARAMS_PER_CALL, METRICS_PER_CALL = 100, 1000  # MLflow's limits


def address(tracking: str, workspace: Workspace) -> str | None:
    """The tracking URI, absolute so that it does not depend on the current folder. None: no tracking.

    Errors: an address that MLflow cannot write to; a database whose driver is not installed.
    """
    if tracking == "none":
        return None
    uri = f"sqlite:///{workspace.root / 'mlflow.db'}" if tracking == "local" else tracking
    scheme, _, rest = uri.partition("://")
    kind = scheme.partition("+")[0]
    if not rest or kind not in (*DATABASES, "http", "https", "databricks"):
        raise HarnessError(
            f"tracking={without_password(tracking)}: this is not the address of a tracking server or database.",
            "Write tracking=local, tracking=none, tracking=http://HOST:5000, or a database: "
            "sqlite:////ABSOLUTE/PATH.db, postgresql://USER@HOST/NAME",
        )
    if kind in DATABASES[1:]:
        from sqlalchemy import make_url

        try:
            make_url(uri).get_dialect().import_dbapi()
        except ImportError as error:
            raise HarnessError(
                f"tracking={without_password(uri)}: Python's driver for {kind} is not installed ({error}).",
                "For PostgreSQL: pip install 'psycopg[binary]'",
            ) from error
    return uri


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
        from mlflow import MlflowClient

        for name in ("alembic", "mlflow"):  # they log "Running upgrade ..." forty times at first use
            logging.getLogger(name).setLevel(logging.WARNING)
        if self.uri.startswith(DATABASES[1:]):  # if it is down, MLflow would retry ten times, for 100 seconds
            from sqlalchemy import create_engine

            create_engine(self.uri).connect().close()
        with self._locked():
            return MlflowClient(self.uri)

    @cached_property
    def experiment(self) -> str:
        """The id of the experiment, created at first use. Artifacts of a local store are in the workspace."""
        client = self.client
        with self._locked():
            existing = client.get_experiment_by_name(EXPERIMENT)
            if existing:
                for tag, value in run_view.experiment_tags().items() - existing.tags.items():
                    client.set_experiment_tag(existing.experiment_id, tag, value)
                return str(existing.experiment_id)
            # A server decides where artifacts go; with a database they would go to the current folder.
            artifacts = (self.root / "mlartifacts").as_uri() if self.uri.startswith(DATABASES) else None
            return str(client.create_experiment(EXPERIMENT, artifacts, run_view.experiment_tags()))

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
        if not self.uri.startswith("sqlite:"):
            return nullcontext()
        from filelock import FileLock

        path = Path(self.uri.removeprefix("sqlite:///"))
        return FileLock(path.with_name(f".{path.name}.lock"))

    @hookimpl
    def harness_cell_finished(self, event: CellFinished) -> None:
        """Copy the record of a cell that has ended."""
        parent = os.environ.get(PARENT_VARIABLE)
        if self.failed or parent == NO_PARENT:
            return
        try:
            self._write(event.record, event.folder, parent)
        except Exception as error:  # a server can fail in any way, and the record is on disk
            self.stop(error)

    def copy_missing(self, records: Iterable[Record], workspace: Workspace, parent: str | None) -> int:
        """Copy the records that have no complete run. Returns their number. Errors: those of the store."""
        copied = 0
        for record in records:
            folder = workspace.folder(record.cell.id)
            runs = self.client.search_runs([self.experiment], f"tags.record = '{_digest(folder)}'")
            if not any(run.info.end_time for run in runs):
                self._write(record, folder, parent, runs[0].info.run_id if runs else None)
                copied += 1
        return copied

    def _write(self, record: Record, folder: Path, parent: str | None, run: str | None = None) -> None:
        from mlflow.entities import Param

        began, ended = run_view.times(record)
        if run is None:
            tags = run_view.tags(record) | {"record": _digest(folder)}
            tags |= {"mlflow.parentRunId": parent} if parent else {}
            created = self.client.create_run(self.experiment, began, tags, run_name=record.cell.method)
            run = str(created.info.run_id)
        params = [Param(key, value) for key, value in run_view.params(record).items()]
        for start in range(0, len(params), PARAMS_PER_CALL):
            self.client.log_batch(run, params=params[start : start + PARAMS_PER_CALL])
        metrics = run_view.metrics(record)
        for start in range(0, len(metrics), METRICS_PER_CALL):
            self.client.log_batch(run, metrics[start : start + METRICS_PER_CALL])
        if batch := run_view.dataset(record):
            self.client.log_inputs(run, [batch])
        with tempfile.TemporaryDirectory() as artifacts:
            run_view.write_files(record, folder, Path(artifacts))
            self.client.log_artifacts(run, artifacts)
        self.client.set_terminated(run, run_view.run_status(record), ended)

    def open_sweep(self, cells: Sequence[str], name: str) -> str:
        """The run that contains the cells of a sweep: a new one, or the earlier one if the sweep is continued."""
        sweep = digest(sorted(cells))
        runs = self.client.search_runs([self.experiment], f"tags.sweep = '{sweep}'")
        if runs:
            self.client.update_run(runs[0].info.run_id, status="RUNNING")
            return str(runs[0].info.run_id)
        tags = {"sweep": sweep, "cells": str(len(cells)), "mlflow.source.name": f"harness sweep {name}".strip()}
        return str(self.client.create_run(self.experiment, tags=tags, run_name=f"sweep {name}".strip()).info.run_id)

    def close_sweep(self, run: str, records: Sequence[Record], board: Path) -> None:
        """Copy records that are missing, then log the counts by status and the board, and end the run."""
        try:
            self.copy_missing(records, Workspace(self.root), run)
            for status in {record.status for record in records}:
                self.client.log_metric(run, f"cells.{status.value}", sum(record.status is status for record in records))
            self.client.set_tag(run, "mlflow.note.content", board.read_text(encoding="utf-8")[: run_view.LONGEST_TAG])
            self.client.log_artifacts(run, str(board.parent))
            self.client.set_terminated(run)
        except Exception as error:
            self.stop(error)

    def stop(self, error: Exception) -> None:
        """Warn once that the store failed, and do not use it any more."""
        if not self.failed:
            print(
                f"warning: {unreachable(self.uri, error)}\n"
                "The records are complete without it. When it works again, copy them with `harness sync` and the same "
                "workspace= and tracking=.",
                file=sys.stderr,
                flush=True,
            )
        self.failed = True


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
        except Exception as error:  # tracking can fail in any way, and the records do not need it
            mirror.stop(error)
    os.environ[PARENT_VARIABLE] = run or NO_PARENT

    def close(records: Sequence[Record], board: Path) -> None:
        if mirror and run:
            mirror.close_sweep(run, records, board)

    try:
        yield close
    except BaseException:
        if mirror and run and not mirror.failed:
            with suppress(Exception):
                mirror.client.set_terminated(run, "KILLED")
        raise
    finally:
        os.environ.pop(PARENT_VARIABLE, None)


@cache
def mirror_of(uri: str, root: Path) -> Mirror:
    """One mirror per store and process, so that all its cells share a client and the experiment."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # stdout is for the answer only
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # with the default of 7 a dead server costs minutes
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    return Mirror(uri, root)


def unreachable(uri: str, error: Exception) -> str:
    """The warning about a store that does not answer: its address and the reason."""
    why = str(error).strip().partition("\n")[0] or type(error).__name__  # MLflow's messages contain the address
    return f"tracking at {without_password(uri)} does not work: {without_password(why)[:300]}"


def _digest(folder: Path) -> str:
    return digest_files(folder / "record.json")
