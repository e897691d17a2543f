"""Real records for tests of records and boards: two methods on two planted worlds, computed once per process."""

from __future__ import annotations

import contextlib
import io
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from harness.cli.main import main
from harness.records.record import Record
from harness.records.workspace import Workspace

WORDS = (
    *("subject=planted", "batch=planted", "batch.n=64", "labels=truth", "controls.n=39", "chooser=modularity"),
    *("reruns=0", "tracking=none", "signal=output_norm", "binarizer=none", "partitioner.k=[8]", "size_curve=true"),
)


@cache
def planted_records() -> tuple[Record, ...]:
    """Pearson and cosine, each on the worlds 0 and 1."""
    with TemporaryDirectory() as root, contextlib.redirect_stdout(io.StringIO()):
        words = ("subject.seed=0,1", "affinity=pearson,cosine", f"workspace={root}")
        with contextlib.redirect_stderr(io.StringIO()):
            assert main(["sweep", *WORDS, *words]) == 0
        records, problems = Workspace(Path(root)).records()
    assert not problems
    return tuple(sorted(records, key=lambda record: record.cell.title))
