"""The command line as users call it, run in this process so that a test takes milliseconds."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness.cells.settings import NEUTRAL
from harness.cli.main import main


@dataclass(frozen=True)
class Answer:
    """The output of a command."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        """stdout as JSON."""
        return json.loads(self.out)


@pytest.fixture
def harness(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., Answer]:
    """Run a command in an empty folder."""
    monkeypatch.chdir(tmp_path)
    for variable in ("HARNESS_EXTRA_PLUGINS", "HARNESS_CONFIG_DIR", "HARNESS_CONFIG_NAME"):
        monkeypatch.setenv(variable, "")  # set, so that what a command adds is taken back after the test
    for variable in ("HARNESS_PLUGINS", "HARNESS_BLOCK_PLUGINS", "HARNESS_DEBUG", "HARNESS_PARENT_RUN"):
        monkeypatch.delenv(variable, raising=False)

    def run(*words: str) -> Answer:
        capsys.readouterr()
        code = main(words)
        out, err = capsys.readouterr()
        return Answer(code, out, err)

    return run


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """SIGINT interrupts, as in a terminal. A suite that a shell starts in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


# A cell of seconds: few and short examples, few controls.
SMALL = (
    *("subject=tiny", "batch.n=16", "batch.length=48", "selector.count=1", "controls.n=19", "reruns=1"),
    "tracking=none",
)


@pytest.fixture
def small() -> tuple[str, ...]:
    """Overrides of a cell that takes seconds."""
    return SMALL


# A cell of a fifth of a second, in a world of formulas.
PLANTED = (
    *("subject=planted", "batch=planted", "batch.n=16", "controls.n=19", "reruns=0", "partitioner.k=[3]"),
    *("chooser=modularity", "selector.count=1", "affinity=pearson", "tracking=none"),
)


@pytest.fixture
def planted() -> tuple[str, ...]:
    """Overrides of a cell that takes a fraction of a second; methods that a test names come after them."""
    return PLANTED


@pytest.fixture
def affinity_plugin(tmp_path: Path) -> Callable[..., tuple[str, ...]]:
    """Write a plugin file that offers one affinity; returns the overrides that use it."""

    def write(name: str, *body: str) -> tuple[str, ...]:
        lines = [
            "import os",
            "from dataclasses import dataclass",
            "from typing import ClassVar",
            "import numpy as np",
            "from harness import Affinity, hookimpl",
            "@dataclass(frozen=True)",
            "class Made:",
            '    """An affinity made for a test."""',
            f"    name: ClassVar[str] = {name!r}",
            "    def __call__(self, spins):",
            *(f"        {line}" for line in body),
            "@hookimpl",
            "def harness_affinities():",
            "    return [Made]",
        ]
        path = tmp_path / f"{name}.py"
        path.write_text("\n".join(lines) + "\n")
        return "--plugin", str(path)

    return write


@pytest.fixture
def results() -> Callable[[Path], dict[str, Any]]:
    """The records of a workspace by cell, without the fields that differ between two runs of the same cell: times,
    command, number of threads, and path of the record.
    """

    def read(workspace: Path) -> dict[str, Any]:
        found = {}
        for path in workspace.glob("records/*/record.json"):
            record = json.loads(path.read_text(encoding="utf-8"))
            del record["seconds"], record["cost"]
            record["provenance"] = {
                key: value for key, value in record["provenance"].items() if key not in ("typed", "started", "threads")
            }
            record["config"] = {key: value for key, value in record["config"].items() if key not in NEUTRAL}
            found[path.parent.name] = record
        return found

    return read


def pytest_itemcollected(item: pytest.Item) -> None:
    """Shapes and types are checked where units and contracts are tested; here they would double the time."""
    item.add_marker("unchecked")
