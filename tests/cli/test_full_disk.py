"""The disk becomes full at the n-th write, for every n: one sentence, no damaged record, and the next run completes."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from harness.cells.inputs import _opened
from harness.records.reader import read_record

Run = Callable[..., Any]


class Disk:
    """A disk that becomes full at the n-th write below a folder; from then on only deleting works.

    A write is one of: opening a file to write (which leaves an empty file), flushing it, renaming it, making a folder,
    and saving arrays, which is not done in Python.
    """

    def __init__(self, folder: Path, n: int) -> None:
        self.folder, self.left = folder, n

    def write(self, path: Any) -> None:
        """Count a write. Errors: the disk is full."""
        if not str(path).startswith(str(self.folder)):
            return
        self.left -= 1
        if self.left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    @contextmanager
    def becomes_full(self) -> Iterator[None]:
        import safetensors.numpy
        from safetensors import SafetensorError

        opened, replace, mkdir, fsync, save = io.open, os.replace, os.mkdir, os.fsync, safetensors.numpy.save_file

        def open_file(file: Any, mode: str = "r", *rest: Any, **named: Any) -> Any:
            stream = opened(file, mode, *rest, **named)
            if set(mode) & set("wax+"):
                try:
                    self.write(file)
                except OSError:
                    stream.close()
                    raise
            return stream

        def flush(descriptor: int) -> None:
            self.write(os.readlink(f"/proc/self/fd/{descriptor}"))
            fsync(descriptor)

        def rename(source: Any, target: Any) -> None:
            self.write(target)
            replace(source, target)

        def make_folder(path: Any, *rest: Any, **named: Any) -> None:
            if not os.path.isdir(path):
                self.write(path)
            mkdir(path, *rest, **named)

        def save_arrays(arrays: Any, path: Any, *rest: Any) -> None:
            try:
                self.write(path)
            except OSError as error:
                Path(path).touch()
                raise SafetensorError(f"I/O error: {error.strerror} (os error 28)") from error
            save(arrays, path, *rest)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(io, "open", open_file)
            patch.setattr("builtins.open", open_file)
            patch.setattr(os, "replace", rename)
            patch.setattr(os, "mkdir", make_folder)
            patch.setattr(os, "fsync", flush)
            patch.setattr(safetensors.numpy, "save_file", save_arrays)
            yield


def unfinished(folder: Path) -> list[Path]:
    return [path for path in folder.rglob(".*") if path.is_file() and path.suffix != ".lock"]


GROUP, CELL, SWEEP = ("close", "L0H0,L0H1", "cache=false"), ("run",), ("sweep", "affinity=pearson,cosine")


@pytest.mark.parametrize(
    ("words", "every"),
    [
        pytest.param(GROUP, 5, id="a group, every fifth write"),
        pytest.param(GROUP, 1, id="a group", marks=pytest.mark.slow),
        pytest.param(CELL, 1, id="a cell", marks=pytest.mark.slow),
        pytest.param(SWEEP, 7, id="a sweep", marks=pytest.mark.slow),
    ],
)
def test_a_disk_that_becomes_full_at_any_write_damages_nothing(
    harness: Run, planted: Any, results: Run, alike: Run, tmp_path: Path, words: tuple[str, ...], every: int
) -> None:
    command = (words[0], *planted, *words[1:])
    assert harness(*command, "workspace=undisturbed").code == 0
    expected = results(tmp_path / "undisturbed")
    n, writes = 0, Disk(tmp_path, 0)
    while writes.left <= 0:
        place = tmp_path / f"full-{n}"
        writes = Disk(tmp_path, n)
        with writes.becomes_full():
            answer = harness(*command, f"workspace={place.name}")
        _opened.cache_clear()  # the cache that has given up
        assert answer.code in (0, 2), answer.err
        assert "defect" not in answer.err
        assert "Traceback" not in answer.err
        said = "No space left on device" in answer.err
        assert said or alike(results(place), expected), (n, "a cell was lost and nothing said so", answer.err)
        assert said or answer.code == 0, answer.err
        assert not unfinished(place)
        for path in place.glob("records/*/record.json"):
            read_record(path)
        resumed = harness(*command, f"workspace={place.name}")
        assert resumed.code == 0, resumed.err
        assert alike(results(place), expected)
        n += every
    assert n > 10
