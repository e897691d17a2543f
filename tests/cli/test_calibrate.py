"""`harness calibrate`: its output, its files and its refusals."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.calibration.calibrate import WEAK
from harness.calibration.questions import level, power

Run = Callable[..., Any]
METHODS = {"the truth itself": ("affinity=pearson", "partitioner=oracle")}


def test_a_calibration_writes_its_page_its_figures_and_its_picture(
    harness: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = {
        "level": lambda worlds, stages, _: level(worlds, stages, heads=[8], profiles=[(2, 1)]),
        "power": lambda worlds, stages, _: power(worlds, stages, heads=[8]),
    }
    monkeypatch.setattr("harness.calibration.calibrate.QUESTIONS", small)
    monkeypatch.setattr("harness.calibration.calibrate.METHODS", METHODS)
    monkeypatch.setattr("harness.calibration.calibrate.EFFECTS", (WEAK,))
    words = ("batch.n=128", "controls.n=19", "subject.layers=6", "subject.width=16", "workspace=here")
    answer = harness("calibrate", "worlds=1", *words, "--json")
    assert answer.code == 0, answer.err
    assert answer.data["command"] == f"harness calibrate worlds=1 {' '.join(words)}"
    folder = tmp_path / "here" / "calibration"
    assert answer.data["out"] == str(folder)
    page = (folder / "calibration.md").read_text()
    assert answer.data["command"] in page
    assert "| serial         | pass " in page
    assert "false passes: all decoys" in page
    with (folder / "calibration.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(answer.data["rulings"])
    silent = [row for row in rows if row["part"] == "kinds" and row["noise"] == "0.0" and row["protocol"] == "default"]
    assert [row["expected"] for row in silent] == ["True"] * 11
    shares = json.loads((folder / "calibration.json").read_text())
    assert shares == {"command": answer.data["command"], "shares": answer.data["shares"]}
    assert {(share["question"], share["method"]) for share in shares["shares"]} == {
        (question, test) for question in ("level", "power") for test in ("exact", "disjoint")
    }
    assert "## Level: share of random groups with p <= .05, exact / disjoint" in page
    assert (folder / "calibration.png").read_bytes().startswith(b"\x89PNG")


def test_an_impossible_calibration_is_refused_with_an_explanation(harness: Run, tmp_path: Path) -> None:
    assert "worlds=few: it must be a whole number." in harness("calibrate", "worlds=few").err
    assert "subject with planted groups" in harness("calibrate", "worlds=1", "subject=tiny").err
    (tmp_path / "file").write_text("")
    refused = harness("calibrate", "worlds=1", "out=file")
    assert refused.code == 2
    assert f"out={tmp_path / 'file'}: it cannot be written to" in refused.err
