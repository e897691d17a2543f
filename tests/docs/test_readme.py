"""The README has what a new user needs."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMMON = {"median", "stability", "most_separated"}  # words that every method of the board shows
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
    expected = [written(row) for row in board["rows"]]
    assert len(table) > 8
    assert set(table) <= set(expected)
    assert len(table) == pytest.approx(len(expected) / 3, abs=1), "a third of the rows"


def written(row: Any) -> str:
    """A row of the committed board as the README shows it."""
    interval = row["rank_interval"]
    rank = f"({row['kind']})" if row["kind"] != "method" else "-".join(map(str, interval)) if interval else "-"
    words = ", ".join(word for word in row["method"].split() if word not in COMMON)
    scores = [row["scores"][name] for name in ("known_circuits", "beyond_random", "size_curve")]
    shown = ["-" if score is None else f"{score:.2f}" for score in scores]
    passed = f"{row['passed']} of {row['tests']}"
    return f"| {' | '.join([rank, NAMED.get(words, words), *shown, passed])} |"
