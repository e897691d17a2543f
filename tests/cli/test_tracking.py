"""The MLflow mirror: one parent per sweep, a child per cell, and runs that continue without a server."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.tracking.mlflow import Mirror

Run = Callable[..., Any]


def test_a_sweep_is_one_parent_run_with_a_child_run_per_cell(harness: Run, planted: Any, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    answer = harness("sweep", *planted, "tracking=local", "affinity=ising,mutual_information", "--json")
    assert answer.code == 0, answer.err
    client = MlflowClient(f"sqlite:///{tmp_path / 'runs' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("closure-harness")
    runs = client.search_runs([experiment.experiment_id])
    assert offered(experiment) <= {name for run in runs for name in seen_of(run)}
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
        assert run.info.run_name == cell["cell"]["method"]
        (batch,) = run.inputs.dataset_inputs
        assert cell["provenance"]["batch"]["digest"].startswith(batch.dataset.digest)
        controls = client.get_metric_history(run.info.run_id, "closure.0.target_logit.controls")
        assert [metric.value for metric in sorted(controls, key=lambda m: m.step)] == sorted(effect["controls"])
        verdict = cell["closure"][0]["verdict"].upper().replace("_", " ")
        assert verdict in run.data.tags["mlflow.note.content"], "the page of the run opens with the verdict card"
    assert "Leaderboard" in parent.data.tags["mlflow.note.content"]
    assert "board.md" in {file.path for file in client.list_artifacts(parent.info.run_id)}


def offered(experiment: Any) -> set[str]:
    """The columns of the view behind the address that a sweep prints."""
    columns: list[str] = json.loads(experiment.tags["mlflow.sharedViewState.closure"])["selectedColumns"]
    return set(columns)


def seen_of(run: Any) -> list[str]:
    named = [f"{kind}.`{name}`" for kind in ("metrics", "tags") for name in getattr(run.data, kind)]
    return [*named, *(["attributes.`Dataset`"] if run.inputs.dataset_inputs else [])]


def test_a_sweep_prints_the_address_of_its_runs(harness: Run, planted: Any, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    store = f"sqlite:///{tmp_path / 'runs' / 'mlflow.db'}"
    MlflowClient(store).create_experiment("somebody else's")
    experiment = MlflowClient(store).create_experiment("closure-harness")  # by an older version, without a view
    answer = harness("sweep", *planted, "tracking=local")
    assert answer.code == 0, answer.err
    view = (
        f"http://127.0.0.1:5000/#/experiments/{experiment}/runs?workflowType=machine_learning&viewStateShareKey=closure"
    )
    assert f"runs: mlflow ui --backend-store-uri {store}, then open {view}" in answer.out
    assert offered(MlflowClient(store).get_experiment(experiment))


def test_the_link_to_a_server_hides_credentials_and_is_empty_without_a_page() -> None:
    mirror = Mirror("http://me:secret@somewhere:5000/", Path())
    mirror.experiment = "7"
    assert mirror.how_to_open.startswith("http://somewhere:5000/#/experiments/7/runs?")
    mirror.failed = True
    assert mirror.how_to_open == ""
    assert Mirror("databricks://profile", Path()).how_to_open == ""


def test_the_run_continues_when_tracking_is_unavailable(harness: Run, planted: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    answer = harness("sweep", *planted, "affinity=mutual_information", f"tracking=sqlite:///{tmp_path}/file/mlflow.db")
    assert answer.code == 0, answer.err
    assert "warning: tracking at" in answer.err
    assert len(list(tmp_path.glob("runs/records/*/record.json"))) == 1


def test_the_password_of_a_server_is_written_nowhere(
    harness: Run, planted: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["sweep", *planted, "tracking=http://me:pass-word@127.0.0.1:9"]
    monkeypatch.setattr("sys.argv", ["harness", *words])
    answer = harness(*words)
    assert answer.code == 0, answer.err
    assert "warning: tracking at http://me:***@127.0.0.1:9 does not work" in answer.err
    harness("leaderboard", "out=board")
    assert "pass-word" not in answer.out + answer.err
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 5
    assert [path for path in files if b"pass-word" in path.read_bytes()] == []


@pytest.mark.usefixtures("ctrl_c")
def test_an_interrupted_and_resumed_sweep_is_one_run_first_killed_then_finished(
    harness: Run, planted: Any, affinity_plugin: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    patience = affinity_plugin(
        "patience",
        "if os.environ.get('CTRL_C'):",
        "    os.kill(os.getpid(), 2)",  # as Ctrl-C does
        "return Affinity(1.0 - np.eye(len(spins.units)), spins.units)",
    )
    words = ("sweep", *planted, "tracking=local", "affinity=pearson,patience", *patience)
    with monkeypatch.context() as patch:
        patch.setenv("CTRL_C", "1")
        assert harness(*words).code == 130
    client = MlflowClient(f"sqlite:///{tmp_path}/runs/mlflow.db")

    def statuses(what: str) -> list[str]:
        runs = client.search_runs([client.get_experiment_by_name("closure-harness").experiment_id])
        return sorted(run.info.status for run in runs if what in run.data.tags)

    assert statuses("sweep") == ["KILLED"]
    assert statuses("cell") == ["FINISHED", "KILLED"]
    assert harness(*words).code == 0
    assert statuses("sweep") == ["FINISHED"], "taken up again, not begun again"
    assert statuses("cell") == ["FINISHED", "FINISHED", "KILLED"]
