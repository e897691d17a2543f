"""Amounts of memory as text: ``10GB``, ``512MiB``."""

from __future__ import annotations

import re

_STEPS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_WRITTEN = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b", re.IGNORECASE)


def parse_size(text: str) -> int:
    """``10GB`` (powers of 1000) or ``10GiB`` (of 1024) in bytes. Errors: ValueError for anything else."""
    match = _WRITTEN.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"'{text}' is not an amount of memory: write for example 10GB or 512MiB")
    return int(float(match[1]) * (1024 if match[3] else 1000) ** _STEPS[match[2].lower()])


def write_size(size: int) -> str:
    """Bytes as ``3.2 GB``."""
    amount = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.3g} {unit}"
        amount /= 1000
    return f"{amount:.3g} TB"
