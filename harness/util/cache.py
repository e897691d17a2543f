"""Caches: values in this process by key, and results on disk that all cells of a workspace share."""

from __future__ import annotations

import errno
import json
import os
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from harness.util.digest import digest

CLOCK_TOLERANCE = 60  # seconds by which the clocks of this machine and of a network disk may differ
CHECKS_PER_LIMIT = 20  # the size of the cache is checked whenever a twentieth of its limit has been written


@dataclass(frozen=True, eq=False)
class Entry:
    """A result: arrays by name, and a value that JSON can hold."""

    arrays: Mapping[str, np.ndarray]
    about: Any = None


@dataclass(frozen=True)
class Stored:
    """An entry on disk. ``used``: when it was last read or written, in seconds since 1970.

    0 for a time in the future: the entry is older than a clock that was set back, so it is removed first.
    """

    kind: str
    file: Path
    bytes: int
    used: float


@dataclass(eq=False)
class Cache:
    """Results on disk: ``folder/kind/key.safetensors``. The key contains everything that the result depends on.

    An entry is renamed into place when it is complete, never changes, and carries a digest of its content: a damaged
    entry is removed and computed again. There are no locks: if two processes write the same entry, one of the two
    remains. Above ``limit`` bytes the least recently used entries are removed. When the disk is full, the run continues
    and nothing more is written. Without a ``folder`` nothing is stored.
    """

    folder: Path | None = None
    limit: int = 10 * 10**9
    _unchecked: int = field(default=0, init=False)  # bytes written since the size was last checked
    _writable: bool = field(default=True, init=False)

    def read(self, kind: str, key: str) -> Entry | None:
        """The entry of this key. None: there is no entry, or it is damaged."""
        if self.folder is None:
            return None
        from safetensors import SafetensorError

        file = self._file(kind, key)
        try:
            entry = _unpacked(kind, key, file)
        except FileNotFoundError:
            return None
        except (SafetensorError, OSError, ValueError) as error:
            _warn(f"cache: {file} is damaged ({error}). It is removed and computed again.")
            with suppress(OSError):
                file.unlink()
            return None
        with suppress(OSError):  # a folder without write permission
            os.utime(file)
        return entry

    def write(self, kind: str, key: str, entry: Entry) -> None:
        """Store an entry. A value that neither safetensors nor JSON can hold is not stored."""
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
            if error.errno != errno.ENOENT:  # another process has just pruned the cache
                self._writable = False
                _warn(
                    f"cache: {self.folder} cannot be written to ({error.strerror}). The run continues without it.\n"
                    "Free some space (harness cache prune), or run without the cache (cache=false)."
                )
            return
        self._unchecked += len(data)
        if self._unchecked * CHECKS_PER_LIMIT >= self.limit:
            self._unchecked = 0
            self.prune(self.limit)

    def keys(self, kind: str, within: str) -> Iterator[str]:
        """Keys of the form ``within/...``."""
        folder = self.folder / kind / within if self.folder else None
        if folder and folder.is_dir():
            yield from (f"{within}/{file.stem}" for file in sorted(folder.glob("*.safetensors")))

    def stored(self) -> list[Stored]:
        """All entries of the cache, least recently used first."""
        entries, now = [], time.time() + CLOCK_TOLERANCE
        for file in self.folder.rglob("*") if self.folder else ():
            with suppress(FileNotFoundError):  # pruned by another process
                if file.is_file():
                    kind, stat = file.relative_to(self.folder or "").parts[0], file.stat()
                    used = stat.st_mtime if stat.st_mtime <= now else 0.0
                    entries.append(Stored(kind, file, stat.st_size, used))
        return sorted(entries, key=lambda stored: (stored.used, stored.file))

    def prune(self, limit: int) -> list[Stored]:
        """Remove the least recently used entries until at most ``limit`` bytes are left. Returns what was removed.

        What cannot be removed, because the folder is read-only for example, stays.
        """
        stored = self.stored()
        left = sum(entry.bytes for entry in stored)
        removed = []
        for entry in stored:
            if left <= limit:
                break
            with suppress(OSError):
                entry.file.unlink(missing_ok=True)  # another process may have pruned it
                left -= entry.bytes
                removed.append(entry)
        return removed

    def _file(self, kind: str, key: str) -> Path:
        assert self.folder is not None
        return self.folder / kind / f"{key}.safetensors"


@dataclass(eq=False)
class Memo:
    """The ``keep`` most recently used values of each kind, in this process, by key; ``disk`` stores results.

    A key contains everything that the value depends on.
    """

    keep: int = 4
    disk: Cache = field(default_factory=Cache)
    _values: dict[str, dict[Any, Any]] = field(default_factory=dict, init=False)

    def get(self, kind: str, key: Any, make: Callable[[], Any], keep: int | None = None) -> Any:
        """The value of this key, computed if it is missing. The least recently used values of its kind are dropped."""
        values = self._values.setdefault(kind, {})
        if key in values:
            values[key] = values.pop(key)  # most recent last
            return values[key]
        while len(values) >= (keep or self.keep):
            values.pop(next(iter(values)))
        values[key] = make()
        return values[key]

    def has(self, kind: str, key: Any) -> bool:
        """Whether the value of this key is kept."""
        return key in self._values.get(kind, {})

    def forget(self, kind: str) -> None:
        """Drop the values of a kind: the next one is computed again."""
        self._values.pop(kind, None)


def _packed(kind: str, key: str, entry: Entry) -> bytes:
    from safetensors.numpy import save

    arrays = {name: np.asarray(array, order="C") for name, array in entry.arrays.items()}
    about = json.dumps(entry.about)
    return save(arrays, {"about": about, "digest": _digest(kind, key, about, arrays)})


def _unpacked(kind: str, key: str, file: Path) -> Entry:
    """Errors: ValueError for an entry whose content differs from what was written for this key."""
    from safetensors import safe_open

    with safe_open(file, "np") as opened:
        metadata = opened.metadata() or {}
        arrays = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  # not a mapping
    about = metadata.get("about", "")
    if metadata.get("digest") != _digest(kind, key, about, arrays):
        raise ValueError("its content differs from what was written")
    return Entry(arrays, json.loads(about))


def _digest(kind: str, key: str, about: str, arrays: Mapping[str, np.ndarray]) -> str:
    return digest(kind, key, about, *(part for name in sorted(arrays) for part in (name, arrays[name])))


def _warn(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
