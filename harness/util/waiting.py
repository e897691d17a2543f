"""Steps that may take long: what they do is said after two seconds, on a terminal and off it."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PATIENCE = 2.0  # seconds


def note(text: str) -> None:
    """Print a line on stderr."""
    print(text, file=sys.stderr, flush=True)


@contextmanager
def said_if_slow(what: str, say: Callable[[str], None] = note) -> Iterator[None]:
    """Say ``what`` is done if the block takes longer than two seconds."""
    timer = threading.Timer(PATIENCE, say, [f"  {what} ..."])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
