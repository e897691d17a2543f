"""kill -9 at random instants of a sweep, then the same command again: nothing is lost, half-written or repeated."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from harness.records.reader import read_record
from harness.util.seeds import rng_for

Run = Callable[..., Any]

# Eight cells.
GRID = ("affinity=pearson,mutual_information,cosine,ising", "intervention=zero,mean", "partitioner=leiden")


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_a_sweep_that_was_killed_and_resumed_leaves_the_records_of_an_uninterrupted_one(
    harness: Run, small: Any, results: Run, alike: Run, tmp_path: Path, kills: int
) -> None:
    rng = rng_for(0, "instants of kill -9")
    workspaces, finished, killed = ["killed-0"], {}, 0
    while killed < kills:
        place = tmp_path / workspaces[-1]
        ended = _sweep_until([*small, *GRID, f"workspace={place}"], tmp_path / "said", float(rng.uniform(0, 2)))
        killed += ended == -signal.SIGKILL
        assert finished.items() <= _finished(place).items(), "a finished record was lost or redone"
        finished = _finished(place)
        if ended == 0:
            workspaces.append(f"killed-{len(workspaces)}")
            finished = {}
    assert harness("sweep", *small, *GRID, f"workspace={workspaces[-1]}").code == 0
    assert finished.items() <= _finished(tmp_path / workspaces[-1]).items()
    assert harness("sweep", *small, *GRID, "workspace=undisturbed", "cache=false").code == 0
    expected = results(tmp_path / "undisturbed")
    assert len(expected) == 8
    for name in workspaces:
        assert alike(results(tmp_path / name), expected)


def _sweep_until(words: list[str], output: Path, instant: float) -> int:
    """Kill a sweep this many seconds after its first cell began; returns the exit code (0: it had finished)."""
    command = [sys.executable, "-m", "harness", "sweep", *words]
    with output.open("wb") as log:
        sweep = subprocess.Popen(command, cwd=output.parent, stdout=log, stderr=log, start_new_session=True)
    while sweep.poll() is None and b"cell " not in output.read_bytes():
        time.sleep(0.02)  # imports are no instant of interest
    with suppress(subprocess.TimeoutExpired):
        sweep.wait(instant)
    if sweep.poll() is None:
        os.killpg(sweep.pid, signal.SIGKILL)
    code = sweep.wait(60)
    assert code in (0, -signal.SIGKILL), output.read_text()
    return code


def _finished(workspace: Path) -> dict[str, int]:
    """When each record was written; all of them can be read."""
    found = {}
    for path in workspace.glob("records/*/record.json"):
        read_record(path)
        found[path.parent.name] = path.stat().st_mtime_ns
    return found
