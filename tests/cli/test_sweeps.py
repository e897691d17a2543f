"""Robust sweeps: errors are reported twice, full disks, two sweeps in parallel, and cells without side effects."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.records.reader import read_record
from harness.records.record import Status
from harness.registry.config import registry
from tests.processes import start

Run = Callable[..., Any]

EXPLODES = "raise ZeroDivisionError('in the middle')"


def test_a_failure_is_reported_immediately_and_again_at_the_end(
    harness: Run, planted: Any, affinity_plugin: Run
) -> None:
    explodes = affinity_plugin("explodes", EXPLODES)
    answer = harness("sweep", *planted, "affinity=explodes,pearson", *explodes)
    assert answer.code == 1
    positions = [i for i in range(len(answer.err)) if answer.err.startswith("ZeroDivisionError: in the middle", i)]
    pearson = answer.err.index("pearson", answer.err.index("explodes"))
    assert positions[0] < pearson < positions[-1], "it waited until the end, or was not said again"
    assert "2 cells: 1 failed, 1 ok" in answer.err


def test_on_error_stop_ends_the_sweep_and_reports_the_cells_not_run(
    harness: Run, planted: Any, affinity_plugin: Run, tmp_path: Path
) -> None:
    words = (*planted, "affinity=explodes,pearson,mutual_information", *affinity_plugin("explodes", EXPLODES))
    stopped = harness("sweep", *words, "on_error=stop")
    assert stopped.code == 1
    assert "3 cells: 1 failed, 2 not run" in stopped.err
    assert len(list(tmp_path.glob("runs/records/*/record.json"))) == 1
    assert not list(tmp_path.glob("runs/.stop*")), "a mark was left that would stop a later sweep"
    went_on = harness("sweep", *words)
    assert "3 cells: 1 failed, 2 ok" in went_on.err, "on_error entered the identity of cells, or the mark stayed"


def test_changes_of_process_state_by_a_cell_are_undone_and_reported(
    harness: Run, planted: Any, affinity_plugin: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEFT_ALONE", "1")
    leaks = affinity_plugin(
        "leaks",
        "import mlflow, torch",
        "os.environ['LEAKED'] = '1'",
        "os.environ.pop('LEFT_ALONE', None)",
        "os.chdir('/')",
        "torch.set_grad_enabled(False)",
        "mlflow.set_tracking_uri(os.environ['LEAK_URI'])",
        "mlflow.active_run() or mlflow.start_run()",
        "np.seterr(all='raise')",
        "return Affinity(1.0 - np.eye(len(spins.units)), spins.units)",
    )
    monkeypatch.setenv("LEAK_URI", f"sqlite:///{tmp_path}/plugin.db")
    answer = harness("sweep", *planted, "affinity=leaks,pearson", *leaks)
    assert answer.code == 0, answer.err
    found = [line for line in answer.err.splitlines() if "warning: cell" in line]
    for what in (
        "environment variables (LEAKED, LEFT_ALONE)",
        "the current folder",
        "whether torch keeps gradients",
        "the active MLflow run",
        "numpy's error handling",
    ):
        assert sum(what in line for line in found) == 1, what
    assert all("leaks" in line for line in found), "the cell after it is not to blame"
    import mlflow

    assert "LEAKED" not in os.environ
    assert os.environ["LEFT_ALONE"] == "1"
    assert Path.cwd() == tmp_path
    assert torch.is_grad_enabled()
    assert mlflow.active_run() is None
    assert np.geterr()["divide"] == "warn"


@pytest.mark.unchecked  # the type checks throw dice
def test_every_cell_starts_from_the_same_global_random_state_and_restores_it(
    harness: Run, planted: Any, affinity_plugin: Run, tmp_path: Path
) -> None:
    gambles = affinity_plugin(
        "gambles",
        "import random, torch",
        "drawn = random.random(), float(np.random.rand()), float(torch.rand(()))",
        "with open(os.environ['GAMBLED'], 'a') as file:",
        "    file.write(f'{drawn}\\n')",
        "return Affinity(1.0 - np.eye(len(spins.units)), spins.units)",
    )
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GAMBLED", str(tmp_path / "drawn"))
        words = (
            *planted,
            "affinity=gambles",
            "binarizer=median,mean",
            "cache=false",
            *gambles,
        )
        assert harness("sweep", *words).code == 0
    assert before == (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())
    first, *others = (tmp_path / "drawn").read_text().splitlines()
    assert others
    assert set(others) == {first}, "a cell got what another had left"


def test_a_model_changed_by_a_cell_is_not_reused_by_the_next(harness: Run, small: Any, tmp_path: Path) -> None:
    plugin = tmp_path / "spoils.py"
    plugin.write_text(
        "\n".join(
            [
                "import gc",
                "from dataclasses import dataclass",
                "from typing import ClassVar",
                "import numpy as np",
                "from harness.engine.subject import HeadSubject",
                "from harness.data.grouping import Affinity",
                "from harness.registry.hookspecs import hookimpl",
                "@dataclass(frozen=True)",
                "class Spoils:",
                '    """Zeroes the output of every block of every model it can find, by hooks it never removes."""',
                "    name: ClassVar[str] = 'spoils'",
                "    def __call__(self, spins):",
                "        known = [thing for thing in gc.get_objects() if isinstance(thing, HeadSubject)]",
                "        for subject in [subject for subject in known if subject.label == 'tiny']:",
                "            for layer in subject.model.model.layers:",
                "                layer.register_forward_hook(lambda module, given, out: out * 0)",
                "        return Affinity(1.0 - np.eye(len(spins.units)), spins.units)",
                "@hookimpl",
                "def harness_affinities():",
                "    return [Spoils]",
            ]
        )
    )
    words = (*small, "cache=false", "--plugin", str(plugin))
    alone = harness("run", "affinity=pearson", "workspace=alone", *words, "--json").data
    answer = harness("sweep", "affinity=spoils,pearson", *words, "--json")
    assert "changed the model (hooks, weights, mode or attention implementation). This has been put back" in answer.err
    (after,) = [cell for cell in answer.data["cells"] if cell["config"]["affinity"]["name"] == "pearson"]
    assert after["closure"] == alone["closure"]


def test_a_full_disk_gives_a_clear_error_and_damages_no_record(
    harness: Run, planted: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = (*planted, "affinity=pearson,mutual_information")
    replace, written = os.replace, []

    def full_after_the_first_record(source: Any, target: Any) -> None:
        if Path(target).name == "record.json":
            if written:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            written.append(target)
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full_after_the_first_record)
        answer = harness("sweep", *words)
    assert answer.code == 2
    assert "record.json cannot be written: No space left on device" in answer.err
    assert "Free some space" in answer.err
    assert not list(tmp_path.glob("runs/records/*/.*")), "a half-written file was left"
    (path,) = tmp_path.glob("runs/records/*/record.json")
    finished = path.stat().st_mtime_ns
    assert read_record(path).status is Status.OK
    assert harness("sweep", *words).code == 0
    assert path.stat().st_mtime_ns == finished
    assert len(list(tmp_path.glob("runs/records/*/record.json"))) == 2


def test_two_sweeps_can_start_simultaneously_in_a_new_workspace(planted: Any, tmp_path: Path) -> None:
    both = [
        start(("sweep", *planted, "tracking=local", f"affinity={pair}"), tmp_path, tmp_path / pair)
        for pair in ("pearson,mutual_information", "mutual_information,cosine")
    ]
    for process in both:
        process.join(300)
    outputs = [path.read_text() for path in tmp_path.iterdir() if path.is_file()]
    assert [process.exitcode for process in both] == [0, 0], outputs
    assert not any("warning" in text for text in outputs), outputs
    records = [read_record(path) for path in tmp_path.glob("runs/records/*/record.json")]
    assert [record.status for record in records] == [Status.OK] * 3


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["experiment=quickstat"], ["experiment 'quickstat' is not known", "quickstart"]),
        (["afinity=ising,pearson"], ["afinity"]),
        (["affinity.l2=0.1,x"], ["affinity.l2"]),
        (["affinity=glob(nothing*)"], ["at least one cell"]),
        (["affinity=../../etc/passwd,ising"], ["'passwd' is not known"]),
        (["affinity=<script>"], ["affinity=<script>"]),
        (["workspace="], ["workspace= names no folder"]),
        (["on_error=ignore"], ["on_error", "stop"]),
        (["tracking=htp://server"], ["tracking=htp://server", "tracking=local"]),
        (["tracking=./mlruns"], ["tracking=./mlruns", "tracking=local"]),
        (["tracking=mysql://me:secret@host/db"], ["tracking=mysql://me:***@host/db", "driver"]),
        (["hydra/launcher=jobli"], ["hydra/launcher", "joblib"]),
    ],
    ids=lambda value: value[0] if "=" in value[0] else "",
)
def test_an_invalid_sweep_is_refused_before_it_starts(
    harness: Run, planted: Any, words: list[str], says: list[str], tmp_path: Path
) -> None:
    answer = harness("sweep", *planted, *words)
    assert answer.code == 2, answer.err
    for part in says:
        assert part in answer.err
    assert "secret" not in answer.err
    assert "Traceback" not in answer.err
    assert not list(tmp_path.glob("runs/records/*"))


def test_glob_selects_every_option_except_the_excluded_ones(harness: Run, planted: Any) -> None:
    planned = harness("plan", *planted, "affinity=glob(*,exclude=[precomputed,p*_correlation])", "--json").data
    names = set(registry().names("affinity")) - {"precomputed", "partial_correlation"}
    assert len(planned) == len(names)
    for name in names:
        assert any(name in row["title"].split() for row in planned), name
