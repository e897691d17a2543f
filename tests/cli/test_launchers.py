"""The same sweep in other processes: joblib, submitit on this machine, Ray with two workers. The records are equal."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.cli.job import EXTRAS

Run = Callable[..., Any]

GRID = ("affinity=pearson,mutual_information", "intervention=zero,mean")


def _here(package: str) -> bool:
    try:
        return importlib.util.find_spec(f"hydra_plugins.{package}") is not None
    except ModuleNotFoundError:
        return False


def _launcher(name: str, package: str, *marks: Any) -> Any:
    reason = f"the extra is not installed: pip install 'closure-harness[{EXTRAS[package]}]'"
    return pytest.param(name, id=name, marks=[pytest.mark.skipif(not _here(package), reason=reason), *marks])


@pytest.fixture
def no_ray_left() -> Iterator[None]:
    """Stops Ray after a test that started it."""
    yield
    if "ray" in sys.modules:
        sys.modules["ray"].shutdown()


@pytest.mark.usefixtures("no_ray_left")
@pytest.mark.parametrize(
    "launcher",
    [
        _launcher("joblib", "hydra_joblib_launcher"),
        _launcher("submitit_local", "hydra_submitit_launcher", pytest.mark.slow),
        _launcher("ray", "hydra_ray_launcher", pytest.mark.slow),
    ],
)
def test_a_launcher_writes_the_same_records_as_one_process(
    harness: Run, planted: Any, results: Run, alike: Run, tmp_path: Path, launcher: str
) -> None:
    assert harness("sweep", *planted, *GRID, "workspace=here").code == 0
    answer = harness("sweep", *planted, *GRID, "workspace=there", f"hydra/launcher={launcher}", "tracking=local")
    assert answer.code == 0, answer.err
    assert "4 cells: 4 ok" in answer.err
    here, there = results(tmp_path / "here"), results(tmp_path / "there")
    assert len(here) == 4
    assert alike(here, there)

    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{tmp_path}/there/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("closure-harness").experiment_id])
    children = [run.data.tags["cell"] for run in runs if "mlflow.parentRunId" in run.data.tags]
    assert sorted(children) == sorted(here), "a worker did not know its parent, or mirrored a cell twice"


@pytest.mark.skipif(not _here("hydra_joblib_launcher"), reason="joblib's launcher is not installed")
def test_workers_load_plugin_files_and_stop_after_an_error(
    harness: Run, planted: Any, affinity_plugin: Run, tmp_path: Path
) -> None:
    explodes = affinity_plugin("explodes", "raise ZeroDivisionError('in the middle')")
    words = (*planted, "affinity=explodes,pearson,cosine,mutual_information", *explodes, "hydra/launcher=joblib")
    answer = harness("sweep", *words, "hydra.launcher.n_jobs=2", "on_error=stop")
    assert answer.code == 1
    assert "ZeroDivisionError: in the middle" in answer.err
    assert " not run" in answer.err.splitlines()[-1]


@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("joblib", "hydra_joblib_launcher"),
        ("submitit_local", "hydra_submitit_launcher"),
        ("submitit_slurm", "hydra_submitit_launcher"),
        ("ray", "hydra_ray_launcher"),
        ("ray_cluster", "hydra_ray_launcher"),
    ],
)
def test_a_missing_launcher_is_refused_with_the_package_to_install(
    harness: Run, planted: Any, monkeypatch: pytest.MonkeyPatch, name: str, package: str
) -> None:
    for module in [module for module in sys.modules if module.startswith(f"hydra_plugins.{package}")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, f"hydra_plugins.{package}", None)  # as if it were not there
    answer = harness("sweep", *planted, "affinity=pearson", f"hydra/launcher={name}")
    assert answer.code == 2
    assert f"pip install 'closure-harness[{EXTRAS[package]}]'" in answer.err
