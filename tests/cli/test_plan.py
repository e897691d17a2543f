"""`harness plan`: the expected cost of cells, from shapes or from finished cells."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]


def test_plan_prints_a_readable_table(harness: Run, small: Any) -> None:
    out = harness("plan", "intervention=zero,mean", *small).out
    assert out.count("to do") == 3  # two cells, and their number
    assert " MB " in out
    assert "shared results are counted once" in out
    assert "Most of it: " in out
    assert all(gpu in out for gpu in ("RTX 4090", "A100", "H100"))


def test_the_steps_of_every_cell_add_up_to_its_total(harness: Run, small: Any) -> None:
    (row,) = harness("plan", *small, "--json").data
    for end in ("least", "most"):
        assert row["seconds"][end] == pytest.approx(sum(step[end] for step in row["steps"].values()))
    assert row["seconds"]["least"] <= row["seconds"]["most"]
    assert list(row["steps"]) == ["subject", "batch", "recording", "proposal", "closure"]
    (curved,) = harness("plan", *small, "size_curve=true", "--json").data
    assert list(curved["steps"]) == [*row["steps"], "size curve"]
    assert curved["steps"]["size curve"]["least"] > 0
    (grown,) = harness("plan", *small, "grow=3", "--json").data
    (fitted,) = harness("plan", *small, "intervention=optimal", "--json").data
    assert fitted["steps"]["closure"]["least"] > 2 * row["steps"]["closure"]["least"]
    assert grown["steps"]["grow"]["most"] > grown["steps"]["grow"]["least"] > 0


def test_a_model_that_is_not_downloaded_is_planned_and_reported_as_too_large(harness: Run) -> None:
    out = harness("plan", "subject=hf", "subject.path=meta-llama/Llama-3.1-70B").out
    assert "which does not fit" in out
    assert "5 x H100" in out  # 282 GB in float32, 64 of the 80 GB of each


def test_a_cost_without_an_estimate_is_unknown(harness: Run) -> None:
    answer = harness("plan", "subject=planted", "batch=planted")
    assert answer.out.count("unknown") == 3  # time, memory, and the whole
    (row,) = harness("plan", "subject=planted", "batch=planted", "--json").data
    assert row["seconds"] is row["memory"] is row["steps"]["closure"] is None
    assert row["on_gpus"] == []


def test_the_plan_prefers_the_measured_times_of_finished_cells(harness: Run, small: Any, tmp_path: Path) -> None:
    harness("run", *small)
    (file,) = tmp_path.glob("runs/records/*/record.json")
    record = json.loads(file.read_text())
    record["seconds"] |= {"proposal": 1234.5, "closure": 100.0}
    record["cost"] |= {"conditions": 50, "computed": 50}
    file.write_text(json.dumps(record))
    done, other = harness("plan", *small, "intervention=zero,mean", "--json").data
    assert done["status"] == "ok"
    assert "seconds" not in done, "nothing of it is to do"
    assert other["steps"]["proposal"] == {"least": 1234.5, "most": 1234.5}
    (again,) = harness("plan", *small, "alpha=0.1", "--json").data
    assert again["steps"]["closure"]["most"] > 300  # 2 s for each condition, some hundreds of them
    estimated = other["steps"]["closure"]["most"]
    assert estimated < again["steps"]["closure"]["most"] / 2, "other interventions take other times"
