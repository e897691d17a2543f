"""Boards side by side: best methods against random groups, in numbers and words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.board.overview import BEGIN, END, summaries, write
from harness.board.upgrades import SCHEMA
from harness.util.errors import HarnessError


def row(method: str, f: float, interval: list[float] | None, kind: str = "method", **changes: Any) -> dict[str, Any]:
    scores = {"known_circuits": f, "beyond_random": None, "size_curve": None}
    usual = {"method": method, "kind": kind, "scores": scores, "known_circuits_interval": interval, "missing": []}
    return {
        **usual,
        "beyond_random_interval": None,
        "seconds": 2.0,
        "by_task": {"world-0": scores},
        "cells": ["a", "b"],
        **changes,
    }


def board(folder: Path, *rows: dict[str, Any]) -> Path:
    tasks = [{"name": f"world-{i} · planted (answer) · zero", "base": f"world-{i}"} for i in range(2)]
    lineage = {"command": "harness leaderboard", "records": {}, "added": []}
    (folder / "one").mkdir(exist_ok=True)
    data = {"schema": SCHEMA, "lineage": lineage, "boards": [{"tasks": tasks, "rows": rows}]}
    (folder / "one" / "board.json").write_text(json.dumps(data))
    return folder


RANDOM = row("a b random(k=[8]) most_isolated", 0.2, [0.1, 0.3], "baseline")


def test_the_best_complete_unsupervised_method_is_held_against_random_groups(tmp_path: Path) -> None:
    rows = (
        row("ising spectral", 0.6, [0.4, 0.8]),
        row("pearson leiden", 0.5, [0.4, 0.6]),
        row("half done", 0.9, [0.8, 1.0], missing=[{"task": "T"}]),
        row("the labels", 1.0, [1.0, 1.0], "ceiling"),
        row("a b layers", 0.4, [0.3, 0.5], "baseline"),
        RANDOM,
    )
    (found,) = summaries(board(tmp_path, *rows))
    assert (found.methods, found.tasks, found.cells) == (3, 1, 12)
    assert found.best is not None
    assert found.random is not None
    assert (found.best.method, found.best.text, found.random.text) == (
        "ising spectral",
        "0.60 [0.40, 0.80]",
        "0.20 [0.10, 0.30]",
    )
    assert "the best of 3 unsupervised methods recovers known circuits with F 0.60 [0.40, 0.80]" in found.finding
    assert found.finding.endswith("the intervals are disjoint.")


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ((row("m", 0.6, [0.25, 0.8]), RANDOM), "the intervals overlap."),
        ((row("m", 0.6, None), RANDOM), "there is no interval."),
        ((row("m", 0.6, [0.4, 0.8]),), "random groups are not on it."),
        ((row("m", 0.6, [0.4, 0.8], missing=["T"]), RANDOM), "no unsupervised method has a result on every task"),
    ],
)
def test_a_finding_says_no_more_than_its_numbers(rows: tuple[dict[str, Any], ...], said: str, tmp_path: Path) -> None:
    (found,) = summaries(board(tmp_path, *rows))
    assert said in found.finding


def test_the_page_and_the_table_of_the_readme_are_written(tmp_path: Path) -> None:
    board(tmp_path, row("<b>mine</b>", 0.6, [0.4, 0.8]), RANDOM)
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{BEGIN}\nstale\n{END}\nafter\n")
    write(tmp_path)
    page, text = (tmp_path / "index.html").read_text(), readme.read_text()
    assert "&lt;b&gt;mine&lt;/b&gt;" in page
    assert "<b>mine" not in page + text
    assert "0.60 [0.40, 0.80]" in page
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "stale" not in text
    write(tmp_path)
    assert readme.read_text() == text


def test_a_folder_without_boards_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="holds no boards"):
        summaries(tmp_path)
