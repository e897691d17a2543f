"""Configurations of several records side by side: flat keys, and those in which the records differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.cells.settings import NEUTRAL
from harness.records.record import Record


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted keys, without those that change no result."""
    found: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        elif prefix or key not in NEUTRAL:
            found[f"{prefix}{key}"] = value
    return found


def differing(records: Sequence[Record]) -> list[str]:
    """The flat keys with several values among the records, in the order of the first configuration."""
    configs = [flat(record.config) for record in records]
    keys = dict.fromkeys(key for config in configs for key in config)
    return [key for key in keys if len({repr(config.get(key)) for config in configs}) > 1]
