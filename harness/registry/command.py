"""Commands that can be pasted: values as Hydra reads them, words as a shell reads them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

PLAIN = re.compile(r"(?!(?:true|false|null|nan|inf)\Z)[a-z_/][\w./@:%+-]*", re.ASCII | re.IGNORECASE)
"""Text that Hydra reads as it is, without quotes."""
DEFAULT_WORKSPACE = "runs"


def command(name: str, *words: str) -> str:
    """``harness NAME WORDS``, quoted for a shell."""
    return shlex.join(["harness", name, *words])


def override(key: str, value: Any) -> str:
    """The word that sets a key to this value: Hydra reads ``override(key, value)`` as ``value``."""
    return f"{key}={as_value(value)}"


def swept(key: str, values: Iterable[Any]) -> str:
    """The word that sweeps a key over these values."""
    return f"{key}={','.join(map(as_value, values))}"


def in_workspace(workspace: Path) -> list[str]:
    """The word that names a workspace; none where a command uses it anyway."""
    return [] if workspace == Path(DEFAULT_WORKSPACE).absolute() else [override("workspace", str(workspace))]


def as_value(value: Any) -> str:
    """A value as it is written in a Hydra override. Text stays text, whatever it looks like."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, list | tuple):
        return f"[{','.join(map(as_value, value))}]"
    text = str(value)
    return text if PLAIN.fullmatch(text) else quoted(re.sub(r"(\\*)\$\{", r"\1\1\\${", text))


def quoted(text: str) -> str:
    """Text in Hydra's quotes, where ``${`` still begins an interpolation."""
    return '"' + re.sub(r'(\\*)("|\Z)', lambda end: end[1] * 2 + ('\\"' if end[2] else ""), text) + '"'
