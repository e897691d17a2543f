"""Progress of a call from Python: one line that updates, in a notebook or on a terminal; nothing elsewhere."""

from __future__ import annotations

import shutil
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from harness.cells.progress import Progress
from harness.data.contracts import Tick

INTERVAL = 0.1
"""Seconds between updates of the line."""


@dataclass
class Line(Progress):
    """Shows the current step of a cell in one line, and its warnings as warnings of Python."""

    prefix: str = ""
    show: Callable[[str], None] | None = None

    def say(self, text: str) -> None:
        """Lines about finished steps are not shown."""

    def warn(self, text: str) -> None:
        """Warn."""
        warnings.warn(text, stacklevel=2)

    @contextmanager
    def _bar(self, what: str, total: int | None) -> Iterator[Tick]:
        done, shown = 0, 0.0

        def tick(more: int) -> None:
            nonlocal done, shown
            done += more
            if self.show and (now := time.monotonic()) - shown > INTERVAL:
                shown = now
                self.show(self.prefix + what + (f"  {100 * done // total} %" if total else ""))

        tick(0)
        yield tick


@contextmanager
def watching() -> Iterator[Callable[[str], None] | None]:
    """A function that replaces the text of one line, in a notebook or on a terminal. None: nobody is watching.

    The line is removed when the call ends.
    """
    ipython: Any = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if hasattr(shell, "kernel"):
        show = _line_of_a_notebook()
    elif sys.stderr.isatty():
        show = _line_of_a_terminal
    else:
        yield None
        return
    try:
        yield show
    finally:
        show("")


def _line_of_a_terminal(text: str) -> None:
    width = shutil.get_terminal_size().columns - 1
    print(f"\r\033[K{text[:width]}", end="", file=sys.stderr, flush=True)


def _line_of_a_notebook() -> Callable[[str], None]:
    from IPython.display import display

    with warnings.catch_warnings():  # transformers imports bars that need another package; this line does not
        warnings.filterwarnings("ignore", "IProgress not found")
        import tqdm.auto  # noqa: F401
    handle = display({"text/plain": ""}, raw=True, display_id=True)
    return lambda text: handle.update({"text/plain": text} if text else {}, raw=True)
