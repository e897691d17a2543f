"""Words as users type them, in every command: folders, units, names of cells; and files that cannot be written."""

from __future__ import annotations

import errno
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.board import report as report_module
from harness.cells.isolation import interrupts
from harness.records.record import Record
from harness.records.workspace import Workspace
from harness.util.cache import Cache

Run = Callable[..., Any]
ID = "0123456789ab"


@pytest.fixture
def recorded(make_record: Callable[..., Record], tmp_path: Path) -> Path:
    """A workspace of an unusual name, with one record."""
    root = tmp_path / "my ünusual=runs, 1"
    Workspace.at(root).write(make_record(cell=ID))
    return root


@pytest.mark.parametrize("words", [["report"], ["leaderboard"], ["report", ID[:4]], ["cache", "show"], ["doctor"]])
def test_a_workspace_of_any_name_is_found_by_every_command(harness: Run, recorded: Path, words: list[str]) -> None:
    answer = harness(*words, f"workspace={recorded.name}/", "--json")
    assert answer.code == 0, answer.err
    if words[0] in ("report", "leaderboard"):
        assert (recorded / {"report": "reports", "leaderboard": "boards"}[words[0]]).is_dir()
    if words[0] == "leaderboard":
        board = json.loads((recorded / "boards" / "board.json").read_text(encoding="utf-8"))
        assert board["lineage"]["command"] == f"harness leaderboard 'workspace=\"{recorded.name}/\"'"
    assert sorted(os.listdir(recorded.parent)) == [recorded.name]


@pytest.mark.parametrize("form", ["{id}", "{root}/records/{id}", "{root}/records/{id}/record.json", "{id:.3}"])
def test_a_cell_is_named_by_the_beginning_of_its_id_or_by_its_path(harness: Run, recorded: Path, form: str) -> None:
    answer = harness("report", form.format(id=ID, root=recorded), f"workspace={recorded}", "--json")
    assert answer.data["cells"] == [ID]


@pytest.mark.parametrize("word", ["*", "a[", "[0-9]*", "/", "/tmp", "..", "../records", "0*", "~", "\n", "a" * 5000])
@pytest.mark.parametrize("command", ["report", "map"])
def test_a_pattern_or_another_path_is_no_cell(harness: Run, recorded: Path, command: str, word: str) -> None:
    answer = harness(command, word, f"workspace={recorded}")
    assert answer.code == 2
    assert "is no cell of workspace" in answer.err


def test_names_of_methods_may_have_the_form_of_python_calls(harness: Run, recorded: Path) -> None:
    answer = harness("compare", "spectral(k=[4, 6])", "spectral(k=[8])", f"workspace={recorded}")
    assert answer.code == 2
    assert "'spectral(k=[4, 6])': workspace" in answer.err
    assert "has no such cell or method" in answer.err


def test_a_folder_of_records_may_have_an_equals_sign_in_its_name(harness: Run, recorded: Path, tmp_path: Path) -> None:
    for name in ("lr=0.1", "seed=3"):
        (tmp_path / name).mkdir()
        answer = harness("leaderboard", "--add", name, f"workspace={recorded}")
        assert "has no effect" not in answer.err
        assert "holds no board" in answer.err or "holds no records.jsonl" in answer.err


def test_plan_takes_the_words_of_close(harness: Run) -> None:
    typed = (["L0H0,L1H2"], ["close", "L0H0, L1H2", "--force"], ["run", "group=[L0H0,L1H2]"])
    planned = [harness("plan", *words, "batch.n=64", "--json").data for words in typed]
    assert len({cell["cell"] for cells in planned for cell in cells}) == 1
    assert planned[0][0]["title"].split(" · ")[2] == "by hand: L0H0 L1H2"
    answer = harness("plan", "close", "L9H9")
    assert answer.code == 2
    assert "'L9H9' is not a unit of this subject" in answer.err


# ----------------------------------------------------------------------------------------------------------------------
# Files that cannot be written
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "blocked"),
    [
        (["leaderboard", "out={root}/file/board"], "file"),
        (["leaderboard"], "boards"),
        (["leaderboard", "out=/proc/nowhere"], ""),
        (["leaderboard", f"out={'x' * 300}"], ""),
        (["report"], "reports"),
        (["report", ID], "reports"),
        (["new-plugin", "affinity", "my_affinity", "--plugin", "{root}/file/x.py"], "file"),
    ],
)
def test_a_file_that_cannot_be_written_is_named(harness: Run, recorded: Path, words: list[str], blocked: str) -> None:
    if blocked:
        (recorded / blocked).write_text("a file, where a folder should be")
    words = [word.format(root=recorded) for word in words]
    answer = harness(*words, f"workspace={recorded}")
    assert answer.code == 2, answer.err
    assert "defect" not in answer.err
    assert answer.out == ""


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO])
def test_a_disk_that_fails_is_reported_with_what_helps(
    harness: Run, recorded: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise OSError(code, os.strerror(code), str(recorded / "there"))

    monkeypatch.setattr(report_module, "report", fails)
    monkeypatch.setattr(Cache, "prune", fails)
    for words in (("report",), ("cache", "prune")):
        answer = harness(*words, f"workspace={recorded}")
        assert answer.code == 2
        assert answer.err.startswith(f"harness: {recorded / 'there'}: {os.strerror(code)}.")
        assert ("Free some space." in answer.err) == (code == errno.ENOSPC)


# ----------------------------------------------------------------------------------------------------------------------
# Methods that end the process
# ----------------------------------------------------------------------------------------------------------------------


def test_a_method_that_ends_the_process_outside_of_a_cell_ends_the_command(harness: Run, affinity_plugin: Run) -> None:
    quits = affinity_plugin("quits", "raise SystemExit(3)")
    answer = harness("propose", "affinity=quits", "batch.n=16", *quits)
    assert answer.code == 2
    assert "a plugin ended the process: sys.exit(3)." in answer.err


def test_ctrl_c_is_told_from_a_method_that_raises_it() -> None:
    outside = signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite in the background ignores Ctrl-C
    before = signal.getsignal(signal.SIGINT)
    with interrupts() as pressed:
        assert not pressed()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert pressed()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a method may do
    assert signal.getsignal(signal.SIGINT) is before
    signal.signal(signal.SIGINT, outside)
