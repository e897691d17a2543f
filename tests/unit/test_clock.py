"""A clock that jumps: durations stay positive, and the cache removes what is old, not what is new."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.cells.progress import Progress
from harness.tracking import run_view
from harness.util.cache import Cache, Entry

DAY = 86400


@pytest.mark.parametrize("jump", [-DAY, DAY])
def test_the_seconds_of_a_step_do_not_depend_on_the_clock(monkeypatch: pytest.MonkeyPatch, jump: int) -> None:
    progress, now = Progress(quiet=True), time.time
    with progress.step("closure"):
        monkeypatch.setattr(time, "time", lambda: now() + jump)
    assert 0 <= progress.seconds["closure"] < 60


def test_a_run_in_tracking_ends_after_its_start_whatever_the_clock_did(make_record: Callable[..., Any]) -> None:
    began, ended = run_view.times(make_record(started="2031-01-01T00:00:00+00:00"))  # seconds are measured, not dated
    assert ended - began == 2000


@pytest.mark.parametrize("jump", [-DAY, DAY])
def test_the_cache_keeps_what_was_written_after_the_clock_jumped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump: int
) -> None:
    cache, now = Cache(tmp_path), time.time()
    for key, used in (("old", now - 60), ("new", now + jump)):
        cache.write("affinity", key, Entry({"x": np.zeros(100)}))
        os.utime(tmp_path / "affinity" / f"{key}.safetensors", (used, used))
    monkeypatch.setattr(time, "time", lambda: now + jump + 1)
    assert [entry.file.stem for entry in cache.prune(cache.stored()[0].bytes)] == ["old"]
    assert cache.read("affinity", "new") is not None
