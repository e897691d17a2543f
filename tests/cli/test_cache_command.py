"""`harness cache`: its listing and pruning; cells run with a cache, without one, and on a full disk."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.cells.inputs import _opened

Run = Callable[..., Any]
RESULTS = ("status", "units", "classes", "partitions", "candidates", "closure", "diagnostics")


def entries(folder: Path) -> list[Path]:
    return sorted(folder.glob("runs/cache/**/*.safetensors"))


def test_cache_entries_of_a_cell_are_shown_and_pruned(harness: Run, small: Any, tmp_path: Path) -> None:
    assert "0 entries" in harness("cache", "show").out
    harness("run", *small)
    shown = harness("cache", "show", "--json").data
    assert {"reading", "affinity", "partitioner", "picture", "outcome"} == set(shown)
    on_disk = entries(tmp_path)
    assert sum(kind["entries"] for kind in shown.values()) == len(on_disk)
    assert sum(kind["bytes"] for kind in shown.values()) == sum(path.stat().st_size for path in on_disk)
    answer = harness("cache", "show")
    assert all(kind in answer.out for kind in shown)

    for path in on_disk:
        os.utime(path, (1, 1))
    last = on_disk[-1]
    last.touch()
    answer = harness("cache", "prune", f"cache_limit={last.stat().st_size}B")
    assert f"{len(on_disk) - 1} entries removed" in answer.err
    assert entries(tmp_path) == [last]
    assert harness("cache", "prune").code == 0
    assert entries(tmp_path) == []


def test_a_cell_gives_the_same_record_with_and_without_the_cache(harness: Run, small: Any, tmp_path: Path) -> None:
    without = harness("run", *small, "cache=false", "--json").data
    assert not (tmp_path / "runs/cache").exists()
    cold = harness("run", *small, "--force", "--json").data
    picture = next(tmp_path.glob("runs/records/*/affinity.png"))
    drawn = picture.read_bytes()
    picture.unlink()
    warm = harness("run", *small, "--force", "--json").data
    for part in RESULTS:
        assert without[part] == cold[part] == warm[part], part
    assert without["cost"]["computed"] == without["cost"]["conditions"] == cold["cost"]["computed"] > 12
    assert warm["cost"] == {**cold["cost"], "computed": 0, "memory": warm["cost"]["memory"]}
    assert picture.read_bytes() == drawn


def test_a_run_on_a_full_disk_continues_and_warns_once(
    harness: Run, small: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    answer = harness("run", *small)
    _opened.cache_clear()  # the cache that has given up
    assert answer.code == 0, answer.err
    assert answer.err.count("No space left on device") == 1
    assert "harness cache prune" in answer.err
    assert entries(tmp_path) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("cache",), "show or prune"),
        (("cache", "shw"), "show or prune"),
        (("cache", "show", "affinity=ising"), "'affinity=ising' has no effect here"),
        (("cache", "show", "cache_limit=1GB"), "has no effect here"),
        (("cache", "prune", "cache_limit=many"), "not an amount of memory"),
        (("plan", "cache_limit=many"), "not an amount of memory"),
    ],
)
def test_invalid_cache_arguments_are_refused(harness: Run, words: tuple[str, ...], message: str) -> None:
    answer = harness(*words)
    assert answer.code == 2
    assert message in answer.err
