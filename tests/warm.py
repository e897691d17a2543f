"""Imports what a sweep imports, by running one: a process that is forked afterwards starts in milliseconds."""

from __future__ import annotations

import os
import tempfile
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path

# A thread pool does not survive a fork.
os.environ |= {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}

from harness.cli.job import _memo
from harness.cli.main import main
from harness.tracking.mlflow import mirror_of

WORDS = ("subject=planted", "batch=planted", "batch.n=16", "controls.n=19", "reruns=0", "partitioner.k=[3]")

with tempfile.TemporaryDirectory() as folder, chdir(folder), Path(os.devnull).open("w") as nowhere:
    with redirect_stdout(nowhere), redirect_stderr(nowhere):
        main(["sweep", *WORDS, "chooser=modularity", "affinity=pearson", "tracking=none"])
    _memo.cache_clear()
    mirror_of.cache_clear()
