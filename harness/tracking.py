"""The MLflow mirror: a copy of records for browsing, never the truth; when it cannot be had, the run goes on."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.board.card import card
from harness.hookspecs import CellFinished, hookimpl
from harness.plugins import Plugins
from harness.record import Record, Status
from harness.workspace import Workspace

EXPERIMENT = "closure-harness"
# The sweep's parent run, for the processes that run its cells. Not MLFLOW_RUN_ID: with that set, a child run silently
# becomes the parent (mlflow #15713).
PARENT_VARIABLE = "HARNESS_PARENT_RUN"
LONGEST_PARAM = 500


@contextmanager
def watch(tracking: str, workspace: Workspace, plugins: Plugins) -> Iterator[None]:
    """While the block runs, every cell that ends is mirrored."""
    uri = address(tracking, workspace)
    mirror = Mirror(uri, workspace.root) if uri else None
    if mirror:
        plugins.manager.register(mirror, name="mlflow mirror")
    try:
        yield
    finally:
        if mirror:
            plugins.manager.unregister(mirror)


@contextmanager
def parent_run(tracking: str, workspace: Workspace, name: str, note: Callable[[str], None]) -> Iterator[None]:
    """One run that holds a sweep's cells. It, the experiment and a new database are made here, by one process, once."""
    uri = address(tracking, workspace)
    run_id = None
    if uri:
        try:
            mirror = Mirror(uri, workspace.root)
            run_id = mirror.client.create_run(mirror.experiment(), run_name=f"sweep {name}".strip()).info.run_id
            os.environ[PARENT_VARIABLE] = run_id
        except Exception as error:  # any failure of tracking leaves the records whole
            note(f"warning: no tracking at {uri}: {error}. The records are complete without it.")
    try:
        yield
    finally:
        os.environ.pop(PARENT_VARIABLE, None)
        if run_id:
            mirror.client.set_terminated(run_id)


def address(tracking: str, workspace: Workspace) -> str | None:
    """The tracking URI: absolute, so that it does not depend on the current folder. None: no tracking."""
    if tracking == "none":
        return None
    return f"sqlite:///{workspace.root / 'mlflow.db'}" if tracking == "local" else tracking


@dataclass(frozen=True)
class Mirror:
    """Copies records to an MLflow tracking store, one run per cell."""

    uri: str
    root: Path

    @property
    def client(self) -> Any:
        """MLflow's client for this store; importing it takes a second, so it waits until it is needed."""
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")  # seven, by default: minutes per cell when down
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
        from mlflow import MlflowClient

        for name in ("alembic", "mlflow"):  # "Running upgrade ...", forty times, at first use
            logging.getLogger(name).setLevel(logging.WARNING)
        return MlflowClient(self.uri)

    def experiment(self) -> str:
        """The id of our experiment, made at first use; local artifacts lie in the workspace."""
        found = self.client.get_experiment_by_name(EXPERIMENT)
        if found:
            return str(found.experiment_id)
        place = (self.root / "mlartifacts").as_uri() if self.uri.startswith("sqlite:") else None
        return str(self.client.create_experiment(EXPERIMENT, artifact_location=place))

    @hookimpl
    def harness_cell_finished(self, event: CellFinished) -> None:
        """Params, metrics, tags and artifacts of one record."""
        from mlflow.entities import Metric, Param, RunTag

        client, record, now = self.client, event.record, int(time.time() * 1000)
        tags = {"status": record.status.value, "cell": record.cell.id, "row": record.cell.row, "task": record.cell.task}
        tags |= {"verdict": " ".join(closure.verdict.value for closure in record.closure) or "-"}
        if parent := os.environ.get(PARENT_VARIABLE):
            tags["mlflow.parentRunId"] = parent
        run = client.create_run(self.experiment(), tags=tags, run_name=record.cell.method).info.run_id
        params = [Param(key, value[:LONGEST_PARAM]) for key, value in flatten(record.config).items()]
        metrics = [Metric(key, value, now, 0) for key, value in measures(record).items()]
        client.log_batch(run, metrics, params, [RunTag("commit", str(record.provenance.get("commit")))])
        for file in sorted(event.folder.iterdir()):
            if not file.name.startswith("."):
                client.log_artifact(run, str(file))
        client.log_dict(run, dict(record.config), "config.yaml")
        client.log_text(run, card(record), "card.txt")
        client.set_terminated(run, "FINISHED" if record.status in (Status.OK, Status.SKIPPED) else "FAILED")


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested configuration as ``a.b.c`` -> text."""
    flat: dict[str, str] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = str(value)
    return flat


def measures(record: Record) -> dict[str, float]:
    """The numbers of a record, by names MLflow takes (no brackets)."""
    numbers: dict[str, float | None] = {f"seconds.{stage}": spent for stage, spent in record.seconds.items()}
    for partition in record.partitions:
        for part in (partition.agreement, partition.stability):
            for name, value in (vars(part) if part else {}).items():
                numbers[f"partition.{partition.name.replace(' = ', '.')}.{name}"] = value
    for i, closure in enumerate(record.closure):
        for metric, effect in closure.effects.items():
            for name in ("baseline", "ablated", "delta", "z", "p", "p_adjusted"):
                numbers[f"closure.{i}.{metric}.{name}"] = getattr(effect, name)
    return {name: value for name, value in numbers.items() if value is not None}
