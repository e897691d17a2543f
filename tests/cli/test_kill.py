"""kill -9 at random instants of a sweep, then the same command again: nothing is lost, half-written or repeated."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from harness.records.reader import read_record
from harness.records.workspace import UNFINISHED
from harness.util.seeds import rng_for
from tests.processes import start

Run = Callable[..., Any]

FEW = ("affinity=pearson,cosine",)
MANY = ("affinity=pearson,cosine,mutual_information", "intervention=zero,mean", "tracking=local")
JOBLIB = ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")


@pytest.mark.parametrize(
    ("kills", "grid"),
    [
        pytest.param(2, FEW, id="2"),
        pytest.param(20, MANY, id="20", marks=pytest.mark.slow),
        pytest.param(20, (*MANY, *JOBLIB), id="20 with joblib", marks=pytest.mark.slow),
    ],
)
def test_a_sweep_that_was_killed_and_resumed_leaves_the_records_of_an_uninterrupted_one(
    harness: Run, planted: Any, results: Run, alike: Run, tmp_path: Path, kills: int, grid: tuple[str, ...]
) -> None:
    rng = rng_for(0, "instants of kill -9")
    words = ("sweep", *planted, *grid)
    took = time.monotonic()
    assert _killed_after((*words, "workspace=undisturbed"), tmp_path, 600) == 0
    took = time.monotonic() - took
    expected = results(tmp_path / "undisturbed")
    assert len(expected) == (2 if grid is FEW else 6)
    workspaces, finished, killed = ["killed-0"], {}, 0
    while killed < kills:
        place = tmp_path / workspaces[-1]
        code = _killed_after((*words, f"workspace={place.name}"), tmp_path, float(rng.uniform(0, took)))
        killed += code == -signal.SIGKILL
        assert finished.items() <= _finished(place).items(), "a finished record was lost or redone"
        finished = _finished(place)
        if code == 0:
            workspaces.append(f"killed-{len(workspaces)}")
            finished = {}
    assert _killed_after((*words, f"workspace={workspaces[-1]}"), tmp_path, 600) == 0
    for name in workspaces:
        place = tmp_path / name
        assert alike(results(place), expected)
        assert all((place / "records" / cell / "affinity.png").is_file() for cell in expected), "a picture is missing"
        assert grid is FEW or _runs(place) == sorted(expected), "a cell was not copied to tracking, or twice"
        left = [path for path in place.glob("**/.*") if UNFINISHED.fullmatch(path.name)]
        assert [path for path in left if path.parent.parent.name == "records"] == []
        _age(left)
    assert harness("close", "L0H0,L0H1", *planted, f"workspace={workspaces[-1]}").code == 0
    assert not [path for path in place.glob("**/.*") if UNFINISHED.fullmatch(path.name)], "left for ever"


def _killed_after(words: tuple[str, ...], folder: Path, seconds: float) -> int:
    """Kill a command with all its processes after a time; returns its exit code."""
    output = folder / "output"
    process = start(words, folder, output)
    process.join(seconds)
    if process.exitcode is None:
        with suppress(ProcessLookupError):  # it has not begun, or has just ended
            os.killpg(process.pid or 0, signal.SIGKILL)
        process.kill()
        process.join(60)
    assert process.exitcode in (0, -signal.SIGKILL), output.read_text()
    text = output.read_text() if output.exists() else ""
    assert "Traceback" not in text, text
    return process.exitcode or 0


def _finished(workspace: Path) -> dict[str, int]:
    """When each record was written; all of them can be read."""
    found = {}
    for path in workspace.glob("records/*/record.json"):
        read_record(path)
        found[path.parent.name] = path.stat().st_mtime_ns
    return found


def _runs(workspace: Path) -> list[str]:
    """The cells of the runs of a workspace that are complete."""
    with sqlite3.connect(workspace / "mlflow.db") as database:
        found = database.execute(
            "select value from tags join runs using (run_uuid) where key = 'cell' and end_time not null"
        )
        return sorted(cell for (cell,) in found)


def _age(files: list[Path]) -> None:
    """Let files be older than a week."""
    for file in files:
        os.utime(file, (1, 1))
