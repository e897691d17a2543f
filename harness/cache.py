"""What one process has computed already: cells of a sweep share the subject, its batches and their recordings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Memo:
    """Values by key, the most recently used ``keep`` of each kind; the key says everything the value depends on."""

    def __init__(self, keep: int = 4) -> None:
        self.keep = keep
        self._values: dict[str, dict[Any, Any]] = {}

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
