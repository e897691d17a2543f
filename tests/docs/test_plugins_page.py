"""The page about plugins: its examples work as shown, and it is complete."""

from __future__ import annotations

import dataclasses
import inspect
import pydoc
import re
import runpy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.cli.cells import EXIT
from harness.cli.main import main
from harness.closure.verdict import RULES
from harness.data import stages
from harness.data.recording import SOURCES
from harness.data.stages import INPUTS, STAGES
from harness.records.record import Status
from harness.registry import hookspecs

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"
HOOKS = {name: f for name, f in inspect.getmembers(hookspecs, inspect.isfunction) if name.startswith("harness_")}
SMALL = ("batch.n=16", "batch.length=48", "controls.n=19", "selector.min_size=2", "reruns=1", "tracking=none")


def ticked(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


@pytest.fixture
def harness(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """Run a command in an empty folder; returns its exit code and its output."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str]:
        monkeypatch.setenv("HARNESS_EXTRA_PLUGINS", "")
        capsys.readouterr()
        code = main(words)
        out, err = capsys.readouterr()
        return code, out + err

    return run


# ----------------------------------------------------------------------------------------------------------------------
# What it shows works
# ----------------------------------------------------------------------------------------------------------------------


def test_the_page_works_when_typed_from_top_to_bottom(
    plugins_page: Any, harness: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    assert set(plugins_page.files) == {"my_affinity.py", "test_my_affinity.py"}
    for name, *words in plugins_page.commands:
        small = SMALL if name in ("propose", "run", "plan", "sweep") else ()
        code, output = harness(name, *words, *small)
        assert code == 0, output
        if name == "new-plugin" and words[0] == "affinity":  # and then the reader puts the page's code there
            assert {path.name for path in tmp_path.iterdir()} == set(plugins_page.files)
            for file, source in plugins_page.files.items():
                (tmp_path / file).write_text(source)
    board = (tmp_path / "runs" / "boards" / "board.md").read_text()
    for affinity in ("agreement", "mutual_information", "random"):
        assert f" {affinity} spectral" in board


@pytest.fixture
def example_test(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """The names of the example's test, run as a module beside the example."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    yield runpy.run_path(str(EXAMPLES / "test_my_affinity.py"))
    del sys.modules["my_affinity"]


def test_the_examples_own_test_passes(example_test: dict[str, Any]) -> None:
    tests = [test for name, test in example_test.items() if name.startswith("test_")]
    assert len(tests) == 2
    for test in tests:
        test()


def test_the_watcher_on_the_page_works(
    plugins_page: Any, harness: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    (watcher,) = [block for block in plugins_page.python if block not in plugins_page.files.values()]
    (tmp_path / "watcher.py").write_text(watcher)
    code, output = harness("close", "L0H1", "--plugin", "watcher.py", *SMALL)
    assert code == 0, output
    assert "warning" not in output
    (noted,) = tmp_path.glob("runs/records/*/title.txt")
    assert "by hand: L0H1" in noted.read_text()


# ----------------------------------------------------------------------------------------------------------------------
# What there is to know is on it
# ----------------------------------------------------------------------------------------------------------------------


def test_the_page_lists_every_stage_its_hook_and_its_inputs(plugins_page: Any) -> None:
    rows = {ticked(row["stage"])[0]: row for row in plugins_page.table("stage")}
    assert list(rows) == list(STAGES)
    for name, stage in STAGES.items():
        asks = ticked(rows[name]["may ask for"])
        if "all that a partitioner may" in rows[name]["may ask for"]:
            asks += STAGES["partitioner"].asks
        assert ticked(rows[name]["hook"]) == [stage.hook]
        assert asks == list(stage.asks)
        assert rows[name]["returns"]
        if stage.many:
            assert f"'{name}=[" in plugins_page.text


def test_the_page_lists_every_input_and_the_stage_that_makes_it(plugins_page: Any) -> None:
    rows = {ticked(row["input"])[0]: row for row in plugins_page.table("input")}
    assert list(rows) == list(INPUTS)
    for name, (makers, _) in INPUTS.items():
        assert [maker for maker in rows[name]["made by"].split(", ") if maker] == list(makers), name
        assert rows[name]["type"]
        assert rows[name]["what it is"]


def test_the_page_lists_every_hook_and_its_arguments(plugins_page: Any) -> None:
    rows = {ticked(row["hook"])[0]: row for row in plugins_page.table("hook")}
    assert set(rows) | {stage.hook for stage in STAGES.values()} == set(HOOKS)
    for name, hook in HOOKS.items():
        arguments = list(inspect.signature(hook).parameters)
        assert arguments == (ticked(rows[name]["arguments"]) if name in rows else [])
    for field in dataclasses.fields(hookspecs.CellFinished):
        assert f"`event.{field.name}`" in plugins_page.text


def test_the_page_lists_every_status_and_its_exit_code(plugins_page: Any) -> None:
    rows = plugins_page.table("status")
    assert [ticked(row["status"])[0] for row in rows] == [status.value for status in Status]
    assert [int(row["exit code of `harness run`"]) for row in rows] == [EXIT[status] for status in Status]


def test_the_page_lists_every_verdict_in_the_order_of_the_rules(plugins_page: Any) -> None:
    found = [ticked(row["verdict"])[0] for row in plugins_page.table("verdict")]
    assert found == list(dict.fromkeys(rule.verdict.value for rule in RULES))


def test_the_page_lists_every_source_of_a_reader(plugins_page: Any) -> None:
    assert [ticked(row["source"])[0] for row in plugins_page.table("source")] == list(SOURCES)


def test_the_page_lists_the_members_of_the_protocols(plugins_page: Any) -> None:
    documented = {ticked(row["attribute"])[0].partition("(")[0] for row in plugins_page.table("attribute")}
    for protocol in (stages.Signal, stages.Metric, stages.AffinityMethod):
        assert set(inspect.get_annotations(protocol)) - {"__call__"} <= documented
    assert {"read", "seed", "fingerprint", "known_limits", "worst"} <= documented


def test_every_harness_name_on_the_page_exists(plugins_page: Any) -> None:
    names = set(re.findall(r"`(harness\.[\w.]+)`", plugins_page.text))
    assert len(names) > 10
    for name in names:
        assert pydoc.locate(name) is not None, name
