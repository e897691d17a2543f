"""What was computed before: values in this process by key, and results on disk that all cells of a workspace share."""

from __future__ import annotations

import errno
import json
import os
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from harness.util.digest import digest

LOOK_EVERY = 20  # the size of the cache is looked at whenever a twentieth of its limit has been written


@dataclass(frozen=True, eq=False)
class Entry:
    """A result: arrays by name, and what JSON can hold."""

    arrays: Mapping[str, np.ndarray]
    about: Any = None


@dataclass(frozen=True)
class Stored:
    """An entry as it lies on disk; ``used`` is when it was last read or written, in seconds since 1970."""

    kind: str
    file: Path
    bytes: int
    used: float


@dataclass(eq=False)
class Cache:
    """Results on disk: ``folder/kind/key.safetensors``; the key says everything that the result depends on.

    An entry appears whole (renamed into place), is never changed, and carries a digest of its content: one that is
    damaged is dropped and made again. Nothing is locked: two processes may make the same entry, and one of the two
    stays. Beyond ``limit`` bytes the least recently used entries go. A disk that is full costs no run: nothing more is
    written then. Without a ``folder`` nothing is kept.
    """

    folder: Path | None = None
    limit: int = 10 * 10**9
    _unseen: int = field(default=0, init=False)  # bytes written since the size was looked at
    _writable: bool = field(default=True, init=False)

    def read(self, kind: str, key: str) -> Entry | None:
        """The entry of this key; None where there is none, or a damaged one."""
        if self.folder is None:
            return None
        from safetensors import SafetensorError

        file = self._file(kind, key)
        try:
            entry = _unpacked(kind, key, file)
        except FileNotFoundError:
            return None
        except (SafetensorError, OSError, ValueError) as error:
            _say(f"cache: {file} is damaged ({error}); it is dropped and made again.")
            with suppress(OSError):
                file.unlink()
            return None
        with suppress(OSError):  # a folder that may only be read
            os.utime(file)
        return entry

    def write(self, kind: str, key: str, entry: Entry) -> None:
        """Keep an entry; what neither safetensors nor JSON can hold is not kept."""
        if self.folder is None or not self._writable:
            return
        from safetensors import SafetensorError

        try:
            data = _packed(kind, key, entry)
        except (TypeError, ValueError, SafetensorError):
            return
        file = self._file(kind, key)
        beside = file.with_name(f".{uuid.uuid4().hex}")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            beside.write_bytes(data)
            os.replace(beside, file)
        except OSError as error:
            with suppress(OSError):
                beside.unlink()
            if error.errno != errno.ENOENT:  # another process has just emptied the cache
                self._writable = False
                _say(
                    f"cache: {self.folder} cannot be written to ({error.strerror}); the run goes on without.\n"
                    "Make room (harness cache prune), or leave it out: cache=false"
                )
            return
        self._unseen += len(data)
        if self._unseen * LOOK_EVERY >= self.limit:
            self._unseen = 0
            self.prune(self.limit)

    def keys(self, kind: str, within: str) -> Iterator[str]:
        """Keys of the form ``within/...``."""
        folder = self.folder / kind / within if self.folder else None
        if folder and folder.is_dir():
            yield from (f"{within}/{file.stem}" for file in sorted(folder.glob("*.safetensors")))

    def stored(self) -> list[Stored]:
        """Everything that lies in the cache, least recently used first."""
        found = []
        for file in self.folder.rglob("*") if self.folder else ():
            with suppress(FileNotFoundError):  # pruned by another process
                if file.is_file():
                    kind, stat = file.relative_to(self.folder or "").parts[0], file.stat()
                    found.append(Stored(kind, file, stat.st_size, stat.st_mtime))
        return sorted(found, key=lambda stored: (stored.used, stored.file))

    def prune(self, limit: int) -> list[Stored]:
        """Drop the least recently used entries until at most ``limit`` bytes are left; what was dropped."""
        stored = self.stored()
        left = sum(entry.bytes for entry in stored)
        dropped = []
        for entry in stored:
            if left <= limit:
                break
            with suppress(FileNotFoundError):
                entry.file.unlink()
            left -= entry.bytes
            dropped.append(entry)
        return dropped

    def _file(self, kind: str, key: str) -> Path:
        assert self.folder is not None
        return self.folder / kind / f"{key}.safetensors"


@dataclass(eq=False)
class Memo:
    """Values of this process by key, the most recently used ``keep`` of each kind; ``disk`` is where results are kept.

    A key says everything that the value depends on.
    """

    keep: int = 4
    disk: Cache = field(default_factory=Cache)
    _values: dict[str, dict[Any, Any]] = field(default_factory=dict, init=False)

    def get(self, kind: str, key: Any, make: Callable[[], Any], keep: int | None = None) -> Any:
        """The value of this key, made if it is not there; older ones of its kind are dropped."""
        values = self._values.setdefault(kind, {})
        if key in values:
            values[key] = values.pop(key)  # most recent last
            return values[key]
        while len(values) >= (keep or self.keep):
            values.pop(next(iter(values)))
        values[key] = make()
        return values[key]

    def forget(self, kind: str) -> None:
        """Drop the values of a kind: the next one asked for is made afresh."""
        self._values.pop(kind, None)


def _packed(kind: str, key: str, entry: Entry) -> bytes:
    from safetensors.numpy import save

    arrays = {name: np.asarray(array, order="C") for name, array in entry.arrays.items()}
    about = json.dumps(entry.about)
    return save(arrays, {"about": about, "digest": _digest(kind, key, about, arrays)})


def _unpacked(kind: str, key: str, file: Path) -> Entry:
    """Errors: ValueError for an entry whose content is not what was written for this key."""
    from safetensors import safe_open

    with safe_open(file, "np") as opened:
        about, told = (opened.metadata() or {}).get("about", ""), (opened.metadata() or {}).get("digest")
        arrays = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  # not a mapping
    if told != _digest(kind, key, about, arrays):
        raise ValueError("its content is not what was written")
    return Entry(arrays, json.loads(about))


def _digest(kind: str, key: str, about: str, arrays: Mapping[str, np.ndarray]) -> str:
    return digest(kind, key, about, *(part for name in sorted(arrays) for part in (name, arrays[name])))


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
