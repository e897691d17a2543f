"""JSON from files that others wrote: size, depth, numbers and names are checked."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Never

import numpy as np

from harness.util.errors import HarnessError
from harness.util.paths import expanded, is_file, why_no_file

LARGEST = 2**28
"""Bytes of a file."""
DEEPEST = 64
"""Lists and objects inside each other."""
BEYOND = 2**63
"""Whole numbers are smaller than this, so that they fit into 64 bits."""

_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def read_json(key: str, path: str, forms: str = "") -> Any:
    """The content of a JSON file in UTF-8, UTF-16 or UTF-32. ``key``: for errors; ``forms``: what it should look like.

    Errors: no file; one that is too large or too deep, or is not JSON; a name that occurs twice in an object (Python
    would keep the last); NaN, infinity, and numbers that 64 bits do not hold.
    """
    fix = forms or f"Give a JSON file: {key}=FILE.json"
    file = expanded(path)
    if not is_file(file):
        raise HarnessError(f"{key}={path}: {why_no_file(file)}.", fix)
    try:
        return content_of(file)
    except (OSError, _JsonError) as error:
        raise HarnessError(f"{key}={path}: {getattr(error, 'strerror', None) or error}.", fix) from error


def content_of(file: Path, largest: int = LARGEST) -> Any:
    """The content of a JSON file. Errors: those of :func:`parse_json`, and OSError."""
    if file.stat().st_size > largest:
        raise _too_large(largest)
    return parse_json(file.read_bytes(), largest)


def parse_json(content: bytes, largest: int = LARGEST) -> Any:
    """The value of a JSON text. Errors: :class:`ValueError` with the reason, see :func:`read_json`."""
    if len(content) > largest:
        raise _too_large(largest)
    try:
        text = content.decode(json.detect_encoding(content)).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise _JsonError(f"it is not text: byte {error.start} is not {error.encoding}") from error
    _check_depth(text)
    try:
        value = json.loads(
            text, object_pairs_hook=_once, parse_int=_whole, parse_float=_finite, parse_constant=_not_a_number
        )
        if _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode()
    except _JsonError:
        raise
    except UnicodeEncodeError as error:
        raise _JsonError("half of a surrogate pair is no character") from error
    except (ValueError, RecursionError) as error:
        raise _JsonError(f"it is not JSON: {error}") from error
    return value


class _JsonError(ValueError):
    """The message is the reason."""


def _too_large(largest: int) -> _JsonError:
    return _JsonError(f"it is larger than {largest >> 20} MiB")


def _check_depth(text: str) -> None:
    """Brackets are counted outside strings, before a parser follows them."""
    outside = np.frombuffer(_STRING.sub("", text).encode("ascii", "replace"), dtype=np.uint8)
    opened, closed = np.isin(outside, list(b"[{")), np.isin(outside, list(b"]}"))
    depth = int(np.cumsum(opened.astype(np.int64) - closed).max(initial=0))
    if depth > DEEPEST:
        raise _JsonError(f"its lists and objects are nested {depth} deep; {DEEPEST} levels are read")


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        ((twice, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise _JsonError(f"'{twice[:80]}' occurs twice; name it once")
    return content


def _whole(digits: str) -> int:
    if len(digits) > 20 or abs(int(digits)) >= BEYOND:
        raise _JsonError(f"a whole number has {len(digits)} digits; 64 bits hold 18")
    return int(digits)


def _finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise _JsonError(f"the number {number[:20]} is too large")
    return value


def _not_a_number(name: str) -> Never:
    raise _JsonError(f"{name} is not a number")
