"""JSON of strangers: bounded before it is parsed, and without the values that no later step can use."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

MOST_BYTES = 2**26
"""Largest size of one JSON text: a record of 100,000 units has a tenth of this."""
LARGEST = 2**63
"""Integers reach up to this, as in every format that results are copied to."""


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text.

    Errors (ValueError): no JSON, more than ``MOST_BYTES``, more than about 200 levels, NaN or infinity (as a word, or
    as a number that is too large), an integer beyond 64 bits, half of a surrogate pair (it cannot be written again).
    """
    from pydantic_core import from_json

    if len(text) > MOST_BYTES:
        raise ValueError(f"it is larger than {MOST_BYTES >> 20} MiB")
    value = from_json(text, allow_inf_nan=False)
    remaining = [value]
    while remaining:
        item = remaining.pop()
        if isinstance(item, dict):
            remaining.extend(item.values())
        elif isinstance(item, list):
            remaining.extend(item)
        elif isinstance(item, float) and not math.isfinite(item):
            raise ValueError("a number is infinite")
        elif isinstance(item, int) and abs(item) >= LARGEST:
            raise ValueError("an integer has more than 64 bits")
    return value


def read_json(path: Path) -> Any:
    """The value of a JSON file. Errors: those of :func:`parse_json` and OSError; its size is looked at first."""
    if path.is_file() and path.stat().st_size > MOST_BYTES:
        raise ValueError(f"it is larger than {MOST_BYTES >> 20} MiB")
    return parse_json(path.read_bytes())
