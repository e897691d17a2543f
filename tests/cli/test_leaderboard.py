"""`harness leaderboard`: building a board, checking it, adding records to it."""

from __future__ import annotations

import json
import lzma
import shlex
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from harness.board.check import NOT_COMPARED
from harness.cli.main import main

Run = Callable[..., Any]
OLD = Path(__file__).parents[1] / "old" / "board_1"
PLANTED = (
    "subject=planted",
    "batch=planted",
    "batch.n=64",
    "labels=truth",
    "controls.n=19",
    "chooser=modularity",
    "reruns=0",
    "tracking=none",
)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two affinities on two planted worlds."""
    root = tmp_path_factory.mktemp("made") / "runs"
    grid = ("subject.seed=0,1", "affinity=pearson,cosine", "binarizer=none", "partitioner=leiden")
    assert main(["sweep", *PLANTED, *grid, f"workspace={root}"]) == 0
    return root


@pytest.fixture
def swept(harness: Run, workspace: Path) -> Run:
    """Commands in a folder that has those results as its workspace ``runs``."""
    shutil.copytree(workspace, "runs")
    return harness


def record_lines(folder: str) -> list[str]:
    return lzma.decompress(Path(folder, "records.jsonl.xz").read_bytes()).decode().removesuffix("\n").split("\n")


def test_a_board_is_written_with_its_records_and_the_check_finds_edits(swept: Run) -> None:
    answer = swept("leaderboard", "out=mine")
    assert answer.code == 0
    names = {path.name for path in Path("mine").iterdir()}
    assert names == {"board.md", "board.csv", "cells.csv", "board.json", "board.html", "records.jsonl.xz"}
    assert swept("leaderboard", "--check", "out=mine").code == 0

    text = Path("mine/board.md").read_text()
    Path("mine/board.md").write_text(text.replace("/2 ", "/3 ", 1))
    checked = swept("leaderboard", "--check", "out=mine")
    assert checked.code == 1
    (difference,) = checked.out.splitlines()[1:]
    row = next(line for line in text.splitlines() if "/2 " in line).split("|")
    assert difference.startswith("board.md, line ")
    assert f"row '{row[2].strip()}': passed: the file has '" in difference
    Path("mine/board.md").write_text(text)

    first, *others = record_lines("mine")
    cell = json.loads(first)["cell"]["id"]
    Path("mine/records.jsonl.xz").write_bytes(lzma.compress("".join(f"{line}\n" for line in others).encode()))
    checked = swept("leaderboard", "--check", "out=mine", "--json")
    assert checked.code == 1
    assert f"record {cell} is missing" in checked.data["disagreements"]


def test_the_board_of_a_workspace_is_checked_against_its_records(swept: Run) -> None:
    assert swept("leaderboard", "--check").code == 0
    shutil.rmtree(next(Path("runs/records").iterdir()))
    checked = swept("leaderboard", "--check")
    assert checked.code == 1
    assert "is missing" in checked.out


def test_bad_records_beside_good_ones_are_named_counted_and_left_out(swept: Run) -> None:
    bad = {"aaaaaaaaaaaa": "{", "bbbbbbbbbbbb": '{"schema": "closure-harness/record/1"}', "cccccccccccc": "[" * 9999}
    for cell, text in bad.items():
        Path("runs/records", cell).mkdir()
        Path("runs/records", cell, "record.json").write_text(text)
    Path("runs/records/dddddddddddd/record.json").mkdir(parents=True)
    for words in (("leaderboard",), ("report",), ("plan", *PLANTED)):
        answer = swept(*words)
        assert answer.code == 0, answer.err
        assert all(f"record {cell} " in answer.err for cell in (*bad, "dddddddddddd"))
        assert "left out: 4 of 8 records" in answer.err
    assert swept("leaderboard", "--check").code == 0


def test_the_command_of_a_row_runs_it_again(swept: Run) -> None:
    swept("leaderboard")
    (board,) = json.loads(Path("runs/boards/board.json").read_text())["boards"]
    row = next(row for row in board["rows"] if row["cells"])
    for result in row["results"].values():
        again = swept(*shlex.split(result["command"])[1:], "tracking=none", "--json")
        assert again.data["cell"]["id"] == result["cell"]


def test_submitted_records_are_added_only_when_they_have_no_problem(swept: Run) -> None:
    swept("leaderboard", "out=mine")
    overrides = ("workspace=theirs", "affinity=cosine", "binarizer=none", "partitioner=eigengap")
    assert swept("run", *PLANTED, *overrides, "subject.seed=0").code == 0
    refused = swept("leaderboard", "--add", "theirs", "out=mine")
    assert refused.code == 2
    assert "no record of task 'planted-1" in refused.err
    assert "subject.seed=1" in refused.err
    assert "nothing was added: 1 problem(s)" in refused.out
    before = record_lines("mine")

    assert swept("run", *PLANTED, *overrides, "subject.seed=1").code == 0
    record = next(Path("theirs/records").glob("*/record.json"))
    text = record.read_text()
    data = json.loads(text)
    data["cell"]["row"] = "somebody"
    record.write_text(json.dumps(data))
    refused = swept("leaderboard", "--add", "theirs", "out=mine")
    assert refused.code == 2
    assert (
        f"records/{record.parent.name}/record.json: its row is 'somebody', but its configuration makes" in refused.err
    )
    assert record_lines("mine") == before

    record.write_text(text)
    added = swept("leaderboard", "--add", "theirs", "out=mine")
    assert (added.code, added.out.split(":")[0]) == (0, "2 record(s) added")
    assert swept("leaderboard", "--check", "out=mine").code == 0
    assert "eigengap" in Path("mine/board.md").read_text()
    assert swept("leaderboard", "--add", "theirs", "out=mine").out.startswith("0 record(s) added")


@pytest.mark.slow  # the cells of an older board: 128 examples, 99 groups
def test_new_runs_are_added_to_a_board_of_an_older_schema(harness: Run) -> None:
    """The records stay as they were written; the board gets the current schema."""
    shutil.copytree(OLD, "mine")
    before = Path("mine/records.jsonl").read_text().splitlines()
    checked = harness("leaderboard", "--check", "out=mine")
    assert checked.code == 0, checked.out
    assert NOT_COMPARED in checked.err
    words = ("sweep", "batch=synthetic_induction,natural_text", "batch.n=128", "affinity=cosine", "workspace=theirs")
    former = (
        "test=disjoint",
        "controls.n=99",
        "metric=[target_logit,accuracy,loss]",
        "deciding=all",
        "check_task=false",
    )
    assert harness(*words, *former, "tracking=none").code == 0  # the protocol of older records

    added = harness("leaderboard", "--add", "theirs", "out=mine")
    assert (added.code, added.out.split(":")[0]) == (0, "2 record(s) added"), added.err
    assert record_lines("mine")[: len(before)] == before
    checked = harness("leaderboard", "--check", "out=mine")
    assert checked.code == 0, checked.out
    assert NOT_COMPARED not in checked.err
    assert "cosine" in Path("mine/board.md").read_text()
    assert harness("leaderboard", "--add", "theirs", "out=mine").out.startswith("0 record(s) added")


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("leaderboard",), "holds no records"),
        (("leaderboard", "--check"), "holds no records"),
        (("leaderboard", "--check", "out=none"), "holds no records.jsonl.xz"),
        (("leaderboard", "--add"), "--add takes one folder of records"),
        (("leaderboard", "theirs"), "--add takes one folder of records"),
        (("leaderboard", "--add", "theirs"), "theirs is not a folder"),
        (("leaderboard", "affinity=ising"), "'affinity=ising' has no effect here"),
        (("report",), "holds no records"),
        (("report", "3f9c"), "'3f9c' is no cell"),
    ],
)
def test_an_impossible_leaderboard_command_is_refused_with_the_fix(
    harness: Run, words: tuple[str, ...], problem: str
) -> None:
    answer = harness(*words)
    assert answer.code == 2
    assert problem in answer.err
    assert "Traceback" not in answer.err


def test_a_sealed_number_is_shown_once_and_opened_later_as_a_seed_that_runs(swept: Run) -> None:
    swept("leaderboard", "out=mine")
    secret = swept("leaderboard", "--seal", "out=mine", "--json").data["secret"]
    assert str(secret) not in "".join(
        path.read_text() for path in [*Path("mine").glob("*.md"), *Path("mine").glob("*.json")]
    )
    assert swept("leaderboard", "--check", "out=mine").code == 0
    assert "has a seal already" in swept("leaderboard", "--seal", "out=mine").err
    assert "is not the sealed number" in swept("leaderboard", "--open", str(secret + 1), "out=mine").err
    assert "not a whole number" in swept("leaderboard", "--open", "x", "out=mine").err
    seed = int.from_bytes(sha256(f"{secret}/sealed split".encode()).digest()[:4], "big")
    assert f"seed={seed} batch.seed={seed}" in swept("leaderboard", "--open", str(secret), "out=mine").out
    assert f"the number is {secret}" in Path("mine/board.md").read_text()
    assert swept("plan", *PLANTED, f"seed={seed}", f"batch.seed={seed}").code == 0
    assert swept("leaderboard", "--check", "out=mine").code == 0
