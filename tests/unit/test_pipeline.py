"""A whole cell on the embedded model: the examples it proposes and tests on, and its end after a failure."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from harness.cells.cell import Cell
from harness.cells.progress import Progress
from harness.execution import execute
from harness.pipeline import run_cell
from harness.records.record import Record, Status
from harness.records.workspace import Workspace
from harness.registry.config import registry, resolve
from harness.registry.plugins import load
from harness.util.cache import Memo

SMALL = [
    "subject=tiny",
    "batch.n=24",
    "batch.length=48",
    "controls.n=19",
    "partitioner.k=[3,4]",
    "partitioner.n_init=1",
]
BROKEN = '''
from dataclasses import dataclass
from typing import ClassVar
import signal
import numpy as np
from harness.data.grouping import Affinity
from harness.registry.hookspecs import hookimpl

class Stop(BaseException):
    """Not an Exception, and unknown to everybody."""

ENDINGS = {"exit": SystemExit(3), "keyboard": KeyboardInterrupt(), "stop": Stop("now"), "end": GeneratorExit()}

@dataclass(frozen=True)
class Broken:
    """Fails in the requested way."""
    name: ClassVar[str] = "zz_broken"
    how: str = "raise"

    def __call__(self, spins):
        n = len(spins.units)
        if self.how == "raise":
            raise RuntimeError("no affinity today" + chr(10) + "second line")
        if self.how == "interrupt":
            signal.raise_signal(signal.SIGINT)  # as Ctrl-C does
        if self.how in ENDINGS:
            raise ENDINGS[self.how]
        return Affinity(np.ones((n, n)) - np.eye(n), spins.units, {"counts": np.ones(3)})

@hookimpl
def harness_affinities():
    return [Broken]
'''


@pytest.fixture(scope="module")
def memo() -> Memo:
    """A shared memo: the model is loaded once."""
    return Memo()


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memo: Memo) -> Callable[..., Record]:
    """Execute a small cell in a workspace of its own."""
    plugin = tmp_path / "broken.py"
    plugin.write_text(BROKEN)
    monkeypatch.setenv("HARNESS_EXTRA_PLUGINS", str(plugin))

    def run(*overrides: str) -> Record:
        return execute(make(*overrides), Workspace.at(tmp_path / "runs"), load(), memo, Progress(quiet=True))

    return run


def make(*overrides: str) -> Cell:
    return Cell.of(resolve([*SMALL, *overrides], registry()), registry())


def test_a_cell_proposes_on_one_half_and_tests_on_the_other(run: Callable[..., Record], tmp_path: Path) -> None:
    record = run()
    assert record.status is Status.OK, record.reason
    assert record.closure[0].n_examples == 12
    assert record.provenance["batch"]["n"] == 24
    assert [partition.k for partition in record.partitions] == [3, 4]
    assert record.closure[0].units == record.candidates[0].units
    assert len(record.units) == len(record.classes) == len(record.partitions[0].labels)
    affinity = load_file(tmp_path / "runs" / "records" / record.cell.id / "affinity.safetensors")["affinity"]
    assert affinity.shape == (len(record.units),) * 2
    np.testing.assert_array_equal(affinity, affinity.T)


def test_proposal_and_test_use_all_examples_without_a_split(run: Callable[..., Record]) -> None:
    assert run("split=none").closure[0].n_examples == 24


def test_a_group_given_by_hand_is_tested_on_all_examples_and_nothing_is_proposed(run: Callable[..., Record]) -> None:
    record = run("group=[L0H0,L1H1]")
    assert record.closure[0].units == ("L0H0", "L1H1")
    assert record.closure[0].n_examples == 24
    assert (record.partitions, record.classes, record.partition) == ((), (), None)


def test_a_proposal_stops_before_anything_is_ablated(memo: Memo) -> None:
    outcome = run_cell(make(), memo, Progress(quiet=True), test=False)
    assert outcome.record.closure == outcome.tested == ()
    assert outcome.record.candidates
    assert outcome.proposals[0].has("affinity")


def test_a_finished_cell_is_reused_and_not_computed_again(run: Callable[..., Record]) -> None:
    assert run() == run()  # with the same times and the same moment of its start
    assert run("force=true").provenance["started"] >= run().provenance["started"]


def test_a_cell_without_a_qualifying_group_is_skipped_with_a_reason(run: Callable[..., Record]) -> None:
    record = run("selector.min_size=33", "selector.max_size=33")
    assert record.status is Status.SKIPPED
    assert "found no group that qualifies" in record.reason
    assert record.closure == ()


@pytest.mark.parametrize(
    ("overrides", "status", "reason"),
    [
        (["affinity=zz_broken"], Status.FAILED, "RuntimeError: no affinity today"),
        (["affinity=zz_broken", "affinity.how=array"], Status.FAILED, "Unable to serialize"),
        (["affinity=zz_broken", "affinity.how=exit"], Status.FAILED, "a method ended the process: sys.exit(3)"),
        (["affinity=zz_broken", "affinity.how=keyboard"], Status.FAILED, "KeyboardInterrupt"),
        (["affinity=zz_broken", "affinity.how=stop"], Status.FAILED, "Stop: now"),
        (["affinity=zz_broken", "affinity.how=end"], Status.FAILED, "GeneratorExit"),
        (["partitioner.k=[99]"], Status.INVALID, "99 groups cannot be made of"),
        (["group=[L99H0]"], Status.INVALID, "'L99H0' is not a unit of this subject"),
        (["batch.vocab=[100,9000]"], Status.INVALID, "outside the subject's vocabulary"),
    ],
)
def test_a_failing_cell_writes_a_record_with_the_reason(
    run: Callable[..., Record], tmp_path: Path, overrides: list[str], status: Status, reason: str
) -> None:
    record = run(*overrides)
    assert record.status is status
    assert reason in record.reason
    assert "\n" not in record.reason or status is Status.INVALID
    folder = tmp_path / "runs" / "records" / record.cell.id
    assert Workspace.at(tmp_path / "runs").find(record.cell.id) == record
    assert (folder / "traceback.txt").is_file() == (status is Status.FAILED)


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Ctrl-C works, also where the suite runs in the background of a shell, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_an_interrupted_cell_writes_a_record_and_raises_the_interrupt(
    run: Callable[..., Record], tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        run("affinity=zz_broken", "affinity.how=interrupt")
    (record,), _ = Workspace.at(tmp_path / "runs").records()
    assert record.status is Status.INTERRUPTED


def test_progress_ends_exactly_at_its_announced_total(memo: Memo, monkeypatch: pytest.MonkeyPatch) -> None:
    totals: dict[str, int] = {}
    done: dict[str, int] = {}

    def bar(self: Progress, what: str, total: int | None) -> Any:
        from contextlib import nullcontext

        name = what.partition(":")[0]
        totals[name] = total or 0
        done[name] = 0
        return nullcontext(lambda n: done.update({name: done[name] + n}))

    monkeypatch.setattr(Progress, "_bar", bar)
    outcome = run_cell(make("seed=5", "futility=null"), memo, Progress(quiet=True))
    assert done["closure"] == totals["closure"] >= 12 * (3 + 19)
    assert 1 <= len(outcome.tested) <= 3
    for tested in outcome.tested:
        assert tested.deltas.shape == (len(tested.report.effects), 1 + tested.report.n_controls, 12)
    assert max(tested.report.n_controls for tested in outcome.tested) >= 19
    assert done["recording"] == totals["recording"] == 12


def test_a_failing_watcher_loses_no_record(
    run: Callable[..., Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin = tmp_path / "watcher.py"
    plugin.write_text(
        "from harness.registry.hookspecs import hookimpl\n\n@hookimpl\ndef harness_cell_finished(event):\n"
        "    (event.folder / 'seen').write_text(event.record.status)\n    raise RuntimeError('no')\n"
    )
    monkeypatch.setenv("HARNESS_EXTRA_PLUGINS", str(plugin))
    record = run("group=[L0H0]")
    assert record.status is Status.OK
    assert (tmp_path / "runs" / "records" / record.cell.id / "seen").read_text() == "ok"
