"""Paths as users type them."""

from __future__ import annotations

import os
from pathlib import Path


def path_of(text: str | Path) -> Path:
    """A path in which ``~`` is the home of the user, as in a shell. ``~name`` stays where there is no such user."""
    return Path(os.path.expanduser(text))  # Path.expanduser fails without such a user
