"""`harness map`: of a described cell, of a finished one, and with bad input."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Run = Callable[..., Any]
CLOSE = ("close", "L0H0,L0H7,L1H2")


def test_a_map_names_the_heads_of_the_chain_and_draws_all(harness: Run, small: Any) -> None:
    answer = harness("map", *small, "intervention=mean")
    assert answer.code == 0, answer.err
    assert "on the test half: 8 examples" in answer.out
    listed = [line.split()[0] for line in answer.out.splitlines() if line.startswith("  L")]
    assert set(listed[:3]) == {"L0H0", "L0H7", "L1H2"}  # each alone breaks induction of the embedded model
    assert "L3.attn" in answer.out
    (picture,) = Path("runs/maps").iterdir()
    assert answer.out.splitlines()[-1] == f"saved: {picture.absolute()}"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert not Path("runs/records").exists(), "a map is not a cell's result"


def test_the_map_of_a_finished_cell_is_on_the_examples_of_its_test(harness: Run, small: Any) -> None:
    record = harness(*CLOSE, *small, "--json").data
    mapped = harness("map", record["cell"]["id"][:5], "out=deep/map.csv", "--json")
    assert mapped.code == 0, mapped.err
    assert mapped.data["examples"] == "all 16 examples"
    assert mapped.data["baseline"]["loss"] == pytest.approx(record["closure"][0]["effects"]["loss"]["baseline"])
    rows = list(csv.DictReader(Path("deep/map.csv").read_text().splitlines()))
    assert [float(row["loss"]) for row in rows] == [unit["loss"] for unit in mapped.data["units"]]


def test_a_record_with_unit_damage_is_drawn_without_its_model(
    harness: Run, small: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = harness(*CLOSE, *small, "--json").data["cell"]["id"]
    path = Path("runs/records") / cell / "record.json"
    data = json.loads(path.read_text())
    whole = dict(zip(data["units"], np.arange(32.0), strict=True))
    part = {unit: whole[unit] for unit in data["units"][:5]}
    path.write_text(json.dumps({**data, "unit_damage": {"loss": part}}))
    assert None not in [unit["loss"] for unit in harness("map", cell, "--json").data["units"]]
    path.write_text(json.dumps({**data, "unit_damage": {"loss": whole}}))
    monkeypatch.setattr("harness.cells.unit_damage.UnitDamage.measure", None)
    mapped = harness("map", cell, "--json").data
    assert [unit["loss"] for unit in mapped["units"]] == list(range(32))


def test_bad_input_is_named_with_a_fix(harness: Run) -> None:
    for words, says in {
        ("zzzz",): "'zzzz' is no cell of workspace",
        ("zzzz", "batch.n=4"): "'batch.n=4' has no effect here",
        ("aa", "bb"): "map takes one cell",
        ("out=map.pdf",): "out=map.pdf: map writes .png, .svg, .csv, .json",
        ("subject=precomputed", "affinity=precomputed", "affinity.path=J.npy"): "J.npy",
        ("subject=tinny",): "Did you mean: tiny, tiny_moe, toy?",
    }.items():
        answer = harness("map", *words)
        assert answer.code == 2, words
        assert says in answer.err
        assert "Traceback" not in answer.err


def test_a_subject_without_a_model_cannot_be_mapped(harness: Run) -> None:
    np.save("J.npy", np.ones((4, 4)) - np.eye(4))
    answer = harness(
        "map", "subject=precomputed", "affinity=precomputed", "affinity.path=J.npy", "labels=none", "subject.units=2x2"
    )
    assert answer.code == 2
    assert "has no model" in answer.err
