"""The README has what a new user needs."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMMON = {"median", "labels", "paper_score"}  # words that every method of the board shows
NAMED = {
    "max_attention, ising, oracle": "the labels themselves",
    "max_attention, ising, layers": "whole layers",
    "max_attention, ising, random": "random groups",
    "attribution, ising, top_k": "first-order attribution",
}


def test_the_pages_contain_commands(readme: Any) -> None:
    assert len(readme.commands) > 8


def test_the_readme_shows_a_complete_plugin(readme: Any) -> None:
    assert list(readme.files) == ["my_affinity.py"]


def test_make_help_lists_the_targets() -> None:
    out = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {"quickstart", "test"} <= {line.split()[1] for line in out.splitlines()}


def test_the_board_in_the_readme_is_the_committed_one() -> None:
    (board,) = json.loads((ROOT / "leaderboards/grid/board.json").read_text())["boards"]
    page = (ROOT / "README.md").read_text()
    _, _, after = page.partition("| rank | signal, affinity, partitioner |")
    table = [line for line in after.partition("\n\n")[0].splitlines() if line.startswith("| ")]
    expected = [_written(row, [task["name"] for task in board["tasks"]]) for row in board["rows"]]
    assert len(table) > 8
    assert set(table) <= set(expected)
    methods = [row for row in board["rows"] if row["kind"] == "method"]
    assert len(table) == pytest.approx(len(expected) / 3, abs=1), "a third of the rows"
    passed = [row for row in methods if row["passed"]]
    assert (len(passed), len(methods)) == (11, 27), "Eleven of 27 find one of the planted circuits"
    assert sum(row["f1"] == 1 for row in passed) == 2, "two of them to the unit"


def _written(row: Any, tasks: list[str]) -> str:
    """A row of the committed board as the README shows it."""
    rank = str(row["rank"]) if row["kind"] == "method" else f"({row['kind']})"
    words = ", ".join(word for word in row["method"].split() if word not in COMMON)
    verdicts_of: dict[str, list[str]] = {}
    for task in tasks:
        result = row["results"].get(task)
        verdict = ", ".join(result["verdicts"]).replace("_", " ") or "nothing proposed" if result else "-"
        verdicts_of.setdefault(task.split(" ")[0], []).append(verdict)
    verdicts = [
        f"{found[0]}, on all three" if len(set(found)) == 1 and "-" not in found else ", ".join(found)
        for found in verdicts_of.values()
    ]
    f1 = "" if row["f1"] is None else f"{row['f1']:.2f}"
    return f"| {' | '.join([rank, NAMED.get(words, words), *verdicts, f1])} |"
