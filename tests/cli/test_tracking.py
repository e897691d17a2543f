"""The MLflow mirror: one parent per sweep, a child per cell, and a run that goes on without it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

Run = Callable[..., Any]
SMALL = ("subject=tiny", "batch.n=16", "batch.length=48", "selector.min_size=2", "controls.n=19")


def test_a_sweep_is_one_parent_and_a_child_per_cell(harness: Run, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    answer = harness("sweep", *SMALL, "affinity=ising,mutual_information", "--json")
    assert answer.code == 0, answer.err
    client = MlflowClient(f"sqlite:///{tmp_path / 'runs' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("closure-harness")
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert len(children) == 2
    assert parent.info.status == "FINISHED"
    by_cell = {run.data.tags["cell"]: run for run in children}
    for cell in answer.data["cells"]:
        run = by_cell[cell["cell"]["id"]]
        effect = cell["closure"][0]["effects"]["target_logit"]
        assert run.data.metrics["closure.0.target_logit.delta"] == effect["delta"]
        assert run.data.params["affinity.name"] == cell["config"]["affinity"]["name"]
        names = {file.path for file in client.list_artifacts(run.info.run_id)}
        assert {"record.json", "affinity.png", "config.yaml", "card.txt"} <= names
        assert run.info.status == "FINISHED"


def test_the_run_goes_on_when_tracking_cannot_be_had(harness: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    answer = harness("sweep", *SMALL, "affinity=mutual_information", f"tracking=sqlite:///{tmp_path}/file/mlflow.db")
    assert answer.code == 0, answer.err
    assert "warning: no tracking" in answer.err
    assert len(list(tmp_path.glob("runs/records/*/record.json"))) == 1
