"""Several commands at once on one workspace: two sweeps that share cells, and a cache that is pruned meanwhile."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.board.check import disagreements
from harness.cells.progress import Progress
from harness.records.workspace import Workspace
from harness.util.cache import Cache
from tests.processes import start

Run = Callable[..., Any]


@pytest.mark.parametrize(
    "words",
    [
        pytest.param((("pearson,cosine", "none"), ("cosine,pearson", "none")), id="without tracking"),
        pytest.param(
            (("pearson,cosine,mutual_information", "local"), ("mutual_information,cosine,ising", "local")),
            id="with tracking",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_two_sweeps_and_a_prune_at_once_lose_nothing_and_compute_each_cell_once(
    harness: Run, planted: Any, results: Run, alike: Run, tmp_path: Path, words: Any
) -> None:
    sweeps = [("sweep", *planted, f"affinity={names}", f"tracking={tracking}") for names, tracking in words]
    outputs = [tmp_path / "first", tmp_path / "second"]
    running = [start(sweep, tmp_path, output) for sweep, output in zip(sweeps, outputs, strict=True)]
    cache = Cache(tmp_path / "runs" / "cache")
    while any(process.exitcode is None for process in running):
        cache.prune(0)
        running[0].join(0.02)
        running[1].join(0.02)
    texts = [output.read_text() for output in outputs]
    assert [process.exitcode for process in running] == [0, 0], texts
    for text in texts:
        assert not {"Traceback", "warning", "damaged", "defect"} & set(text.replace(":", " ").split()), text
    found = results(tmp_path / "runs")
    computed = sum(text.count("  predictions ") for text in texts)
    assert computed == len(found), "a cell was computed twice"
    for sweep in sweeps:
        assert harness(*sweep, "workspace=alone", "tracking=none").code == 0
    assert alike(found, results(tmp_path / "alone"))
    assert disagreements(tmp_path / "runs" / "boards", Workspace(tmp_path / "runs").records()[0]) == []
    if (tmp_path / "runs" / "mlflow.db").exists():
        with sqlite3.connect(tmp_path / "runs" / "mlflow.db") as database:
            cells = database.execute("select value from tags where key = 'cell'").fetchall()
        assert sorted(cell for (cell,) in cells) == sorted(found), "a cell has no run, or two"


def test_a_cell_that_another_process_runs_is_waited_for(
    harness: Run, planted: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("run", *planted)
    cell = json.loads(harness(*words, "--json").out)["cell"]["id"]
    workspace = Workspace(tmp_path / "runs")
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with workspace.locked(cell):
            held.set()
            done.wait(60)

    say = Progress.say

    def listen(progress: Progress, text: str) -> None:
        if "another process runs this cell; waiting for its result" in text:
            done.set()
        say(progress, text)

    monkeypatch.setattr(Progress, "say", listen)
    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    answer = harness(*words)
    holder.join()
    assert done.is_set()
    assert "done already" in answer.err
