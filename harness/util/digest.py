"""Content digests: equal digests mean equal content."""

from __future__ import annotations

import hashlib
import json
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

SETTLED = 2 * 10**9
"""Nanoseconds after which a second change of a file has another time: clocks of file systems are coarse."""


def digest(*parts: Any) -> str:
    """SHA-256, in hex, over arrays (dtype, shape, bytes) and JSON-able values, in order."""
    hasher = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            hasher.update(f"{part.dtype.str}{part.shape}".encode())
            hasher.update(np.ascontiguousarray(part).tobytes())
        else:
            hasher.update(json.dumps(part, sort_keys=True, default=str).encode())
        hasher.update(b"\0")
    return hasher.hexdigest()


def digest_files(*paths: Path) -> str:
    """SHA-256, in hex, over the names and contents of files. A file that did not change is read once per process."""
    hasher = hashlib.sha256()
    for path in paths:
        status = path.stat()
        version = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        read = _content if time.time_ns() - status.st_ctime_ns > SETTLED else _content.__wrapped__
        hasher.update(path.name.encode() + b"\0")
        hasher.update(read(path, version))
    return hasher.hexdigest()


@lru_cache(maxsize=1024)
def _content(path: Path, version: tuple[int, ...]) -> bytes:  # noqa: ARG001  # the version is part of the cache's key
    """Digest of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
