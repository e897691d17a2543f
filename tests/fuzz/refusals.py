"""What a refusal of an input must be."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from harness.util.errors import HarnessError

T = TypeVar("T")


def unless_refused(call: Callable[[], T], key: str) -> T | None:
    """The value of a call, or None if it refuses its input in a sentence that names the key and can be printed."""
    try:
        return call()
    except HarnessError as error:
        _check(error, key)
        return None


def _check(error: HarnessError, key: str) -> None:
    assert key in error.what
    assert error.fix
    assert len(str(error)) < 2000
    str(error).encode("utf-8")
