"""The measured cost of cells: FLOPs against those that torch counts, forwards, memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from harness.board.columns import COLUMNS, costs
from harness.board.table import build
from harness.cells.cell import Cell
from harness.cells.inputs import cache_of, load_subject
from harness.cells.progress import Progress
from harness.pipeline import run_cell
from harness.records.record import Record
from harness.registry.config import registry, resolve
from harness.util import memory
from harness.util.cache import Memo

pytestmark = pytest.mark.unchecked

TINY = ["subject=tiny", "batch.n=24", "batch.length=48", "controls.n=19", "selector.min_size=2"]


def cell(folder: Path, *words: str) -> Cell:
    return Cell.of(resolve([f"workspace={folder}", *words], registry()), registry())


@pytest.mark.parametrize(
    "words",
    [
        ("intervention=zero",),
        ("intervention=mean",),
        ("intervention=patching",),
        ("intervention=zero", "intervention.positions=query"),
        ("signal=attribution", "partitioner=top_k"),
        ("signal=attribution", "partitioner=top_k", "intervention=patching"),
        ("group=[L0H0,L3H1]",),
    ],
    ids=" ".join,
)
def test_flops_are_those_that_torch_counts(tmp_path: Path, words: tuple[str, ...]) -> None:
    tiny = cell(tmp_path, *TINY, *words, "cache=false")
    memo = Memo()
    load_subject(tiny, memo, Progress(quiet=True))  # it tries what conditions can share, which no cell asked for
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        record = run_cell(tiny, memo, Progress(quiet=True)).record
    assert record.closure
    assert record.cost["flops"] == pytest.approx(counter.get_total_flops(), rel=0.05)


def test_cached_computation_is_included_in_the_cost(tmp_path: Path) -> None:
    tiny = cell(tmp_path, *TINY)
    first, again = (run_cell(tiny, Memo(disk=cache_of(tiny)), Progress(quiet=True)).record.cost for _ in range(2))
    assert first["computed"] == first["conditions"] > again["computed"] == 0
    assert {what: first[what] for what in ("conditions", "forwards", "flops")} == {
        what: again[what] for what in ("conditions", "forwards", "flops")
    }
    assert first["forwards"] == 12 * first["conditions"]  # tested on half of the examples


def test_a_subject_without_shapes_has_no_flops(tmp_path: Path) -> None:
    cost = run_cell(cell(tmp_path, "subject=planted", "batch=planted", "batch.n=32"), Memo(), Progress(quiet=True))
    assert "flops" not in cost.record.cost
    assert cost.record.cost["forwards"] == 16 * cost.record.cost["conditions"]


def test_unknown_costs_are_not_counted() -> None:
    progress = Progress(quiet=True)
    for flops in (None, 3, None, 4):
        progress.spend(forwards=2, flops=flops, memory=None)
    assert progress.cost == {"forwards": 8, "flops": 7}


def test_the_memory_peak_is_the_one_since_its_reset() -> None:
    memory.forget_peak()
    before = memory.peak()["memory"]
    held = np.ones(2**25)  # 256 MiB
    assert memory.peak()["memory"] >= before + held.nbytes * 0.9
    del held
    assert memory.peak()["memory"] >= before + 2**27
    if Path("/proc/self/clear_refs").exists():
        memory.forget_peak()
        assert memory.peak()["memory"] < before + 2**27


def test_a_board_shows_mean_costs_and_the_maximum_memory(make_record: Callable[..., Record]) -> None:
    by_subject = {
        "s0": {"forwards": 10, "flops": 2 * 10**9, "memory": 5 * 10**8},
        "s1": {"forwards": 30, "memory": 10**9},
    }
    (board,) = build([replace(make_record(subject=subject), cost=cost) for subject, cost in by_subject.items()])
    shown = {column.head: column.text(board.rows[0]) for column in COLUMNS}
    assert (shown["forwards"], shown["GFLOP"], shown["memory"]) == ("20", "2", "1 GB")
    assert costs({"computed": 3, **by_subject["s0"]}) == ["3 computed", "10 forwards", "2 GFLOP", "500 MB of memory"]
