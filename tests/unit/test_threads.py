"""Threads: one per library while a cell fits, all cores while a model runs or fits run in parallel."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from joblib import Parallel, cpu_count, delayed
from threadpoolctl import threadpool_info

from harness import pipeline
from harness.cells.cell import Cell
from harness.cells.progress import Progress
from harness.registry.config import registry, resolve
from harness.util.cache import Memo
from harness.util.threads import cores, one_thread, spread

pytestmark = pytest.mark.unchecked

LATE = """
import json, sys
import numpy
from harness.util.threads import one_thread
from threadpoolctl import threadpool_info
def pools():
    return {pool["filepath"]: pool["num_threads"] for pool in threadpool_info()}
with one_thread():
    import scipy.linalg, sklearn.cluster, sklearn.linear_model, sklearn.covariance, igraph, leidenalg
    inside = pools()
print(json.dumps([inside, pools()]))
"""


@pytest.fixture
def two_torch_threads() -> Iterator[None]:
    """More threads than in the other tests, to distinguish one from all."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_libraries_loaded_while_threads_are_pinned_are_pinned_too() -> None:
    """scipy and scikit-learn bring their own BLAS and OpenMP, which use the configured number of threads."""
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"}
    answer = subprocess.run([sys.executable, "-c", LATE], capture_output=True, text=True, env=environment, check=True)
    inside, after = json.loads(answer.stdout)
    assert len(inside) >= 3
    assert set(inside.values()) == {1}
    assert any("gomp" in name or "omp" in name for name in after)
    assert all(threads == min(2, os.cpu_count() or 1) for name, threads in after.items() if "blas" in name)


def test_torch_is_pinned_and_released(two_torch_threads: None) -> None:
    with one_thread():
        assert torch.get_num_threads() == 1
        assert {pool["num_threads"] for pool in threadpool_info()} == {1}
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("split", ["half", "none"])
def test_a_cell_records_and_ablates_with_all_threads_and_fits_with_one(
    split: str, two_torch_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, set[int]] = {"recording": set(), "affinity": set(), "ablation": set()}
    settings = ["subject=tiny", "batch.n=24", "batch.length=48", "controls.n=19", "partitioner.k=[3]", "reruns=1"]
    cell = Cell.of(resolve([*settings, f"split={split}", "null_proposals=2"], registry()), registry())
    subject = cell.stages["subject"]()
    affinity = type(cell.stages["affinity"])
    fit, record, evaluate = affinity.__call__, type(subject).record, type(subject).evaluate

    def noting(part: str, work: Any) -> Any:
        @functools.wraps(work)  # its signature tells what it asks for
        def noted(*given: Any, **named: Any) -> Any:
            seen[part].add(torch.get_num_threads())
            return work(*given, **named)

        return noted

    monkeypatch.setattr(affinity, "__call__", noting("affinity", fit))
    monkeypatch.setattr(type(subject), "record", noting("recording", record))
    monkeypatch.setattr(type(subject), "evaluate", noting("ablation", evaluate))
    pipeline.run_cell(cell, Memo(), Progress(quiet=True))
    assert seen == {"recording": {2}, "affinity": {1}, "ablation": {2}}


@pytest.mark.parametrize(("limit", "expected"), [("1", 1), ("1,4", 1), ("0", None), ("", None), ("many", None)])
def test_the_number_of_cores_can_be_limited(limit: str, expected: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in OpenMP: a value that is not a positive number is ignored."""
    monkeypatch.setenv("OMP_NUM_THREADS", limit)
    assert cores() == (expected or cpu_count())


def test_the_limit_never_exceeds_the_number_of_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "100000")
    assert cores() == cpu_count()


def test_parallel_jobs_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """The joblib launcher starts its workers like this: as many jobs as cores leave one core to each."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert set(Parallel(n_jobs=cpu_count())(delayed(cores)() for _ in range(cpu_count()))) == {1}


def test_parallel_results_are_in_order_and_errors_are_raised() -> None:
    assert spread(lambda item: item * item, range(50)) == [item * item for item in range(50)]
    with pytest.raises(ZeroDivisionError):
        spread(lambda item: 1 / item, [1, 0])
