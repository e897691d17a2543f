"""Run a command of the harness in a process of its own, as a user does, and measure it."""

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
    """One process: its answer, its wall time and its processor time, in seconds."""

    answer: Any
    seconds: float
    busy: float

    @property
    def memory(self) -> int:
        """Peak memory while it computed a cell, from its records.

        The system's figure for a finished process cannot be used: it includes its parent's memory at the start.
        """
        cells = self.answer.get("cells", [self.answer])
        return max(cell["cost"].get("memory", 0) for cell in cells)


def harness(*words: str, threads: int | None = None) -> Run:
    """Run a command. Errors: RuntimeError with its messages, if it fails."""
    environment = {} if threads is None else {"OMP_NUM_THREADS": str(threads)}
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        command = [sys.executable, "-m", "harness", *words, "--json"]
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=out, stderr=err, env={**os.environ, **environment})
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        out.seek(0)
        err.seek(0)
        if status:
            raise RuntimeError(f"harness {' '.join(words)}\n{err.read()[-2000:]}")
        return Run(json.load(out), seconds, used.ru_utime + used.ru_stime)
