"""Commands in processes of their own, that start in milliseconds: they are forked from one that has imported all."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any


def forked() -> Any:
    """The context of ``multiprocessing`` whose processes have all imports behind them."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.warm"])
    return context


def start(words: Sequence[str], folder: Path, output: Path) -> BaseProcess:
    """Start a command in a folder, as the leader of a process group; what it prints goes to a file."""
    process: BaseProcess = forked().Process(target=_run, args=(tuple(words), folder, output))
    process.start()
    return process


def _run(words: tuple[str, ...], folder: Path, output: Path) -> None:
    from harness.cli.main import main

    os.setsid()
    os.chdir(folder)
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(file, stream)
    os._exit(main(words))
