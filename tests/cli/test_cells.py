"""run, sweep, propose, close, plan: their output, their files and their exit codes."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.closure.verdict import Verdict
from harness.records.reader import read_record
from harness.records.record import Status
from harness.registry.config import registry

Run = Callable[..., Any]


def test_run_prints_a_verdict_and_writes_a_record_and_a_picture(harness: Run, planted: Any, tmp_path: Path) -> None:
    answer = harness("run", *planted)
    assert answer.code == 0, answer.err
    (path,) = tmp_path.glob("runs/records/*/record.json")
    record = read_record(path)
    assert record.closure[0].verdict.value.upper().replace("_", " ") in answer.out
    assert (path.parent / "affinity.png").read_bytes().startswith(b"\x89PNG")
    assert str(path) in answer.out


def test_json_record_has_the_documented_shape(harness: Run, small: Any) -> None:
    record = harness("run", *small, "--json").data
    assert record["schema"] == "closure-harness/record/7"
    assert record["status"] == "ok"
    assert {"cell", "config", "provenance", "seconds", "reason"} <= set(record)
    assert [partition["k"] for partition in record["partitions"]] == [4, 6, 8, 12, 16]
    assert all(len(partition["labels"]) == len(record["units"]) == 32 for partition in record["partitions"])
    (chosen,) = [partition for partition in record["partitions"] if partition["chosen"]]
    assert {"ari", "nmi", "purity", "units"} == set(chosen["agreement"])
    assert {"seeds", "resamples"} == set(chosen["stability"])
    assert chosen["quality"] == chosen["stability"]["resamples"] == max(p["quality"] for p in record["partitions"])
    assert {"units", "size", "sites", "purity", "isolation"} <= set(record["candidates"][0])
    closure = record["closure"][0]
    assert {"units", "n_examples", "n_controls", "effects", "site_ablation", "verdict", "reason"} <= set(closure)
    assert closure["verdict"] in set(Verdict)
    assert closure["n_examples"] == 8  # the half that was not proposed on
    assert closure["stopped_early"] is (closure["n_controls"] < 19)
    assert closure["n_controls"] >= 10
    for metric in ("loss", "accuracy", "target_logit"):
        effect = closure["effects"][metric]
        assert {"baseline", "ablated", "delta", "controls", "z", "p", "interval"} <= set(effect)
        assert effect["delta"] == pytest.approx(effect["ablated"] - effect["baseline"])
        as_necessary = sum(statistic >= effect["statistic"] for statistic in effect["statistics"])
        assert effect["p"] == pytest.approx((1 + as_necessary) / (1 + closure["n_controls"]))


def test_the_same_command_gives_the_same_digits(harness: Run, small: Any) -> None:
    first = harness("run", *small, "--json").data
    again = harness("run", *small, "--json", "--force").data
    for part in ("partitions", "candidates", "closure", "units", "diagnostics"):
        assert first[part] == again[part], part


def test_a_finished_cell_is_reused_and_force_computes_it_again(harness: Run, planted: Any, tmp_path: Path) -> None:
    harness("run", *planted)
    (path,) = tmp_path.glob("runs/records/*/record.json")
    written_at = path.stat().st_mtime_ns
    assert "done already" in harness("run", *planted).err
    assert path.stat().st_mtime_ns == written_at
    harness("run", *planted, "--force")
    assert path.stat().st_mtime_ns > written_at


def test_propose_stops_before_ablation_and_writes_nothing(harness: Run, planted: Any, tmp_path: Path) -> None:
    answer = harness("propose", *planted, "--json")
    assert answer.code == 0
    assert answer.data["closure"] == []
    assert answer.data["candidates"]
    assert not list(tmp_path.glob("runs/records/*"))


def test_close_tests_the_named_group_on_all_examples(harness: Run, planted: Any) -> None:
    answer = harness("close", "L0H1,L1H2", *planted, "--json")
    assert answer.code == 0, answer.err
    (closure,) = answer.data["closure"]
    assert closure["units"] == ["L0H1", "L1H2"]
    assert closure["n_examples"] == 16
    assert answer.data["partitions"] == []


def test_a_sweep_writes_a_record_per_cell_and_a_board(harness: Run, planted: Any, tmp_path: Path) -> None:
    grid = (*planted, "affinity=ising,mutual_information", "intervention=zero,mean")
    answer = harness("sweep", *grid)
    assert answer.code == 0, answer.err
    assert len(list(tmp_path.glob("runs/records/*/record.json"))) == 4
    with (tmp_path / "runs/boards/board.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["cells"]]  # without what it could be compared with
    candidates = [
        len(json.loads(path.read_text())["candidates"]) for path in tmp_path.glob("runs/records/*/record.json")
    ]
    assert sum(int(row["tests"]) for row in rows) == sum(candidates)
    assert all((row["rank"] != "") == (row["passed"] != "0") for row in rows)  # no rank without a pass
    assert "4 ok" in answer.err
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/records/*/record.json")}
    assert harness("sweep", *grid).code == 0
    assert before == {path: path.stat().st_mtime_ns for path in before}, "a second sweep redid finished cells"


def test_plan_lists_cells_and_writes_no_file(harness: Run, planted: Any, tmp_path: Path) -> None:
    answer = harness("plan", *planted, "affinity=glob(*)", "--json")
    assert len(answer.data) == len(registry().names("affinity"))
    assert {row["status"] for row in answer.data} == {"to do"}
    assert not list(tmp_path.iterdir())
    harness("run", *planted, "affinity=mutual_information")
    statuses = {row["status"] for row in harness("plan", *planted, "affinity=ising,mutual_information", "--json").data}
    assert statuses == {"ok", "to do"}


def test_a_selector_that_finds_nothing_is_a_result(harness: Run, small: Any) -> None:
    answer = harness("run", *small, "selector.min_size=31", "selector.max_size=31", "--json")
    assert answer.code == 0
    assert answer.data["status"] == "skipped"
    assert "no group that qualifies" in answer.data["reason"]
    assert answer.data["closure"] == []


def test_a_failing_method_fails_only_its_own_cell(
    harness: Run, planted: Any, affinity_plugin: Run, tmp_path: Path
) -> None:
    explodes = affinity_plugin("explodes", "raise ZeroDivisionError('in the middle')")
    answer = harness("sweep", *planted, "affinity=explodes,mutual_information", *explodes, "--json")
    assert answer.code == 1
    by_status = {cell["status"]: cell for cell in answer.data["cells"]}
    assert set(by_status) == {"failed", "ok"}
    assert by_status["failed"]["reason"] == "ZeroDivisionError: in the middle"
    (trace,) = tmp_path.glob("runs/records/*/traceback.txt")
    assert "explodes.py" in trace.read_text()
    redone = harness("run", *planted, "affinity=explodes", *explodes)
    assert redone.code == 1, "a failed cell is never served"


def test_survey_prints_a_class_and_selectivities_for_every_unit(harness: Run, tmp_path: Path) -> None:
    answer = harness("survey", "subject=tiny", "batch.n=64", "--json")
    units = answer.data["units"]
    assert [unit["unit"] for unit in units][:2] == ["L0H0", "L0H1"]
    assert len(units) == 32
    classes = {"induction", "previous-token", "duplicate-token", "first-token", "self", "local"}
    for unit in units:
        assert set(unit["selectivity"]) == classes
        best = max(unit["selectivity"].values())
        assert (unit["class"] == "unclassified") == (best < 30)
    assert list(tmp_path.glob("runs/surveys/*.json"))


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_writes_an_interrupted_record_that_is_not_reused(
    harness: Run, planted: Any, affinity_plugin: Run, tmp_path: Path
) -> None:
    patience = affinity_plugin(
        "patience",
        "if os.environ.get('CTRL_C'):",
        "    os.kill(os.getpid(), 2)",  # as Ctrl-C does
        "return Affinity(1.0 - np.eye(len(spins.units)), spins.units)",
    )
    words = (*planted, "affinity=patience", *patience)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CTRL_C", "1")
        for command in ("run", "sweep"):
            answer = harness(command, *words)
            assert answer.code == 130
            assert "the same command continues with the others" in answer.err
    (path,) = tmp_path.glob("runs/records/*/record.json")
    assert read_record(path).status is Status.INTERRUPTED
    assert harness("run", *words).code == 0
    assert read_record(path).status is Status.OK
