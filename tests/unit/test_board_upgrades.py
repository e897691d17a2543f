"""Boards of older schemas are still checked figure by figure, and old records keep their identities."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.board.check import disagreements, read_board
from harness.board.records_file import read_records
from harness.cells.cell import Cell
from harness.records.record import Record
from harness.registry.config import registry
from harness.util.errors import HarnessError

OLD = Path(__file__).parents[1] / "old" / "board_1"
CHANGES: dict[str, Callable[[Any, Any], object]] = {
    "table 1, row '{method}': ari: the board has 0.5": lambda row, _: row.update(ari=0.5),
    "table 1, row '{method}': passed_interval: the board has [0.5, 1.0]": lambda row, _: row.update(
        interval=[0.5, 1.0]
    ),
    "table 1, row '{method}': stability: the board has 0.5": lambda row, _: row.update(stability=0.5),
    "table 1, row '{method}', results, {task}: effect: the board has 0.5": lambda _, result: result.update(effect=0.5),
    "table 1, row '{method}', results, {task}: beyond_controls": lambda _, result: result.update(standing=3.0),
    "table 1, row '{method}', results, {task}, cost: flops": lambda _, result: result["cost"].update(flops=1),
    "table 1, row '{method}': its records make it, the board lacks it": lambda row, _: row.update(method="another"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A board of schema 1, with its records of schema 2."""
    return Path(shutil.copytree(OLD, tmp_path / "old"))


@pytest.fixture
def records(folder: Path) -> list[Record]:
    """The records of that board."""
    found, problems = read_records(folder)
    assert not problems
    return list(found.values())


def edited(folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """The board after an edit of its file."""
    data = json.loads((folder / "board.json").read_text())
    change(data)
    (folder / "board.json").write_text(json.dumps(data))
    return folder


def test_an_old_board_agrees_with_its_old_records(folder: Path, records: list[Record]) -> None:
    assert read_board(folder).outdated
    assert disagreements(folder, records) == []


@pytest.mark.parametrize(("problem", "change"), CHANGES.items(), ids=[str(i) for i in range(len(CHANGES))])
def test_a_changed_figure_of_an_old_board_is_named(
    folder: Path, records: list[Record], problem: str, change: Callable[[Any, Any], object]
) -> None:
    row = json.loads((folder / "board.json").read_text())["boards"][0]["rows"][0]
    task = next(iter(row["results"]))

    def first(data: dict[str, Any]) -> None:
        row = data["boards"][0]["rows"][0]
        change(row, row["results"][task])

    found = disagreements(edited(folder, first), records)
    assert any(line.startswith(problem.format(method=row["method"], task=task)) for line in found), found


def test_record_digests_versions_and_settings_of_an_old_board_are_compared(folder: Path, records: list[Record]) -> None:
    cell = records[0].cell.id

    def change(data: dict[str, Any]) -> None:
        data["made"]["records"][cell] = "0" * 64
        data["made"]["lock"]["numpy"] = ["9.9"]
        data["boards"][0]["judges"]["give_up"] = "11"

    found = disagreements(edited(folder, change), records)
    assert any(line.startswith(f"record {cell} was changed") for line in found)
    assert any(line.startswith("lineage, lock: numpy: the board has ['9.9']") for line in found)
    assert "table 1, settings: futility: the board has '11', its records make '10'" in found
    assert len(found) == 3


def test_texts_of_an_old_board_are_not_compared(folder: Path, records: list[Record]) -> None:
    def change(data: dict[str, Any]) -> None:
        data["made"]["sweeps"] = ["harness sweep in other words"]
        data["boards"][0]["comparison"]["reason"] = "in other words"
        data["boards"][0]["rows"][-1]["missing"][0]["command"] = "in other words"

    assert disagreements(edited(folder, change), records) == []


def test_figures_with_another_meaning_today_are_not_compared(folder: Path, records: list[Record]) -> None:
    """Schema 3 ranks by other scores and corrects p over other tests."""

    def change(data: dict[str, Any]) -> None:
        row = data["boards"][0]["rows"][0]
        row |= {"rank": 7, "rank_interval": [3, 7], "score": 0.5, "q": 0.5, "frontier": True}
        data["boards"][0]["comparison"]["p"] = 0.5

    assert disagreements(edited(folder, change), records) == []


def test_an_old_board_that_is_damaged_is_refused(folder: Path, records: list[Record]) -> None:
    with pytest.raises(HarnessError, match="damaged"):
        disagreements(edited(folder, lambda data: data["boards"][0].pop("judges")), records)


def test_the_settings_of_an_old_record_make_the_same_protocol_and_row(records: list[Record]) -> None:
    """New runs can be added to an old board: a renamed setting does not change the digests.

    A method's name shows the parameters that differ from today's defaults.
    """
    for record in records:
        cell = Cell.of(record.config, registry())
        assert (cell.protocol, cell.row) == (record.cell.protocol, record.cell.row)


def test_the_exact_test_is_another_protocol_than_the_former_one(records: list[Record]) -> None:
    """So its records are never ranked together with older ones."""
    exact = Cell.of({**records[0].config, "test": "exact"}, registry())
    disjoint = Cell.of({**records[0].config, "test": "disjoint"}, registry())
    assert disjoint.protocol == records[0].cell.protocol
    assert exact.protocol != disjoint.protocol


def test_an_old_record_is_kept_as_it_was_written(folder: Path, records: list[Record]) -> None:
    lines = [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]
    assert [json.loads(record.as_written()) for record in records] == lines
    assert {line["schema"] for line in lines} == {"closure-harness/record/2"}
