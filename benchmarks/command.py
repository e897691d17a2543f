"""A command of the harness as a user starts it, in a process of its own, and what it took."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Run:
    """One process: its answer, and seconds on the clock and of its processors."""

    answer: Any
    seconds: float
    busy: float

    @property
    def memory(self) -> int:
        """The most that it held while it made a cell, as its records say.

        What the system says of a process that has ended counts what its parent held when it was started.
        """
        cells = self.answer.get("cells", [self.answer])
        return max(cell["cost"].get("memory", 0) for cell in cells)


def harness(*words: str, threads: int | None = None) -> Run:
    """The answer of a command. Errors: RuntimeError, with what it said, where it fails."""
    told = {} if threads is None else {"OMP_NUM_THREADS": str(threads)}
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        command = [sys.executable, "-m", "harness", *words, "--json"]
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=out, stderr=err, env={**os.environ, **told})
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        out.seek(0)
        err.seek(0)
        if status:
            raise RuntimeError(f"harness {' '.join(words)}\n{err.read()[-2000:]}")
        return Run(json.load(out), seconds, used.ru_utime + used.ru_stime)
