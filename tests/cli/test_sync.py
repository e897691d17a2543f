"""Tracking on a real MLflow server: the copied runs, and behavior while the server is slow, refuses or is down."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from harness.tracking.mlflow import EXPERIMENT, mirror_of
from harness.util.digest import digest_files

Run = Callable[..., Any]
STARTS_WITHIN = 90  # seconds; ten on a quiet machine


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def _serving(folder: Path, port: int) -> Iterator[str]:
    """``mlflow server`` on loopback with SQLite; stopped with all its workers."""
    uri = f"http://127.0.0.1:{port}"
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
        *("--backend-store-uri", f"sqlite:///{folder}/server.db", "--artifacts-destination", str(folder / "artifacts")),
    ]
    quiet = {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }  # else seven processes more
    with (folder / "server.log").open("ab") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, env={**os.environ, **quiet})
    try:
        deadline = time.monotonic() + STARTS_WITHIN
        while not _healthy(uri):
            if server.poll() is not None or time.monotonic() > deadline:
                pytest.skip(f"no MLflow server could be started: {(folder / 'server.log').read_text()[-500:]}")
            time.sleep(0.2)
        yield uri
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait(10)


def _healthy(uri: str) -> bool:
    try:
        with urllib.request.urlopen(f"{uri}/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _runs(uri: str) -> tuple[Any, list[Any]]:
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    return client, client.search_runs([client.get_experiment_by_name(EXPERIMENT).experiment_id])


def _of_cells(runs: list[Any]) -> dict[str, str]:
    """Record digests by cell. Errors: a cell with two runs."""
    found = [(run.data.tags["cell"], run.data.tags["record"]) for run in runs if "cell" in run.data.tags]
    assert len(dict(found)) == len(found), "a cell was copied twice"
    return dict(found)


@pytest.fixture
def small_sweep(planted: Any) -> tuple[str, ...]:
    """Two cells."""
    return (*planted, "affinity=pearson,mutual_information")


def test_runs_made_while_the_server_was_down_are_copied_by_sync(
    harness: Run, small_sweep: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    port = _free_port()
    uri = f"http://127.0.0.1:{port}"

    refused = harness("sweep", *small_sweep, f"tracking={uri}")
    assert refused.code == 0, "the run does not depend on its mirror"
    assert refused.err.count(f"tracking at {uri} does not work") == 1, "said once, not once per cell"
    assert "harness sync" in refused.err
    outcome = harness("sync", f"tracking={uri}")
    assert outcome.code == 2
    assert f"tracking at {uri} does not work" in outcome.err
    assert "Traceback" not in outcome.err

    records = {path.parent.name: digest_files(path) for path in tmp_path.glob("runs/records/*/record.json")}
    assert len(records) == 2
    with _serving(tmp_path, port):
        mirror_of.cache_clear()
        assert harness("sync", f"tracking={uri}", "--json").data == {"records": 2, "copied": 2}
        assert harness("sync", f"tracking={uri}", "--json").data == {"records": 2, "copied": 0}
        client, runs = _runs(uri)
        assert _of_cells(runs) == records

        answer = harness("sweep", *small_sweep, "intervention=mean", f"tracking={uri}")
        assert answer.code == 0, answer.err
        assert "warning" not in answer.err
        _, runs = _runs(uri)
        assert len(_of_cells(runs)) == 4
        (parent,) = [run for run in runs if "sweep" in run.data.tags]
        assert parent.info.status == "FINISHED"
        assert parent.data.metrics["cells.ok"] == 2
        children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
        assert len(children) == 2
        for run in children:
            names = {file.path for file in client.list_artifacts(run.info.run_id)}
            assert {"record.json", "affinity.png", "config.yaml", "card.txt"} <= names
            assert run.inputs.dataset_inputs[0].dataset.digest

        again = harness("sweep", *small_sweep, "intervention=mean", f"tracking={uri}")
        assert again.code == 0
        _, runs = _runs(uri)
        assert len(_of_cells(runs)) == 4
        assert sum("sweep" in run.data.tags for run in runs) == 1, "a sweep that is taken up again has one parent"


def test_an_interrupted_copy_is_completed_and_not_duplicated(harness: Run, planted: Any, tmp_path: Path) -> None:
    assert harness("run", *planted, "futility=null", "tracking=local").code == 0
    uri = f"sqlite:///{tmp_path}/runs/mlflow.db"
    client, (run,) = _runs(uri)
    before = run.data.metrics, run.data.params
    client.update_run(run.info.run_id, status="RUNNING")
    from mlflow.store.tracking.dbmodels.models import SqlRun
    from sqlalchemy import create_engine, update

    with create_engine(uri).begin() as database:  # as a killed process leaves it: MLflow's own API cannot say so
        database.execute(update(SqlRun).values(end_time=None))
    assert harness("sync", "--json").data == {"records": 1, "copied": 1}
    _, (run,) = _runs(uri)
    assert run.info.status == "FINISHED"
    assert (run.data.metrics, run.data.params) == before
    history = client.get_metric_history(run.info.run_id, "closure.0.target_logit.controls")
    assert [metric.step for metric in sorted(history, key=lambda metric: metric.step)] == list(range(19))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["tracking=none"], ["tracking=none is not a tracking store"]),
        (["affinity=ising"], ["'affinity=ising' has no effect here"]),
        (["tracking=ftp://host"], ["tracking=ftp://host", "tracking=local"]),
        ([], ["holds no records"]),
    ],
    ids=lambda value: " ".join(value) if not value or "=" in value[0] else "",
)
def test_an_invalid_sync_is_refused(harness: Run, words: list[str], says: list[str]) -> None:
    answer = harness("sync", *words)
    assert answer.code == 2
    for part in says:
        assert part in answer.err
