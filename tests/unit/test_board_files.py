"""Boards as files: lineage, checks, requirements on submitted records, hostile names."""

from __future__ import annotations

import json
import lzma
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.board.check import disagreements
from harness.board.lineage import Lineage
from harness.board.records_file import RECORDS, read_records, write_records
from harness.board.submission import problems
from harness.board.table import build
from harness.board.write import files, write_files
from harness.closure.verdict import Verdict
from harness.records.record import Record, Status, parse_record
from harness.registry.config import registry
from harness.util.errors import HarnessError

Make = Callable[..., Any]
HOSTILE = "<script>alert(1)</script> | `x` [a](http://evil) \"'\n\x1b[31m"


@pytest.fixture
def records(make_record: Make, make_effect: Make) -> list[Record]:
    """Two methods on two tasks; verdict and p as the numbers make them."""
    effects = dict.fromkeys(("target_logit", "accuracy"), make_effect())
    return [make_record(method=m, subject=s, cell=f"{m}{s}", effects=effects) for m in "ab" for s in ("s0", "s1")]


@pytest.fixture
def board(records: list[Record], tmp_path: Path) -> Path:
    """The board of these records."""
    write_files(tmp_path / "board", records, "harness leaderboard")
    return tmp_path / "board"


def changed(record: Record, **cell: str) -> Record:
    return replace(record, cell=replace(record.cell, **cell))


# ----------------------------------------------------------------------------------------------------------------------
# Where a board comes from, and whether it agrees with its records
# ----------------------------------------------------------------------------------------------------------------------


def test_a_board_names_its_command_its_packages_and_the_digest_of_every_record(records: list[Record]) -> None:
    versions = ["1.0", "1.0", "2.0", "1.0"]
    built = [
        replace(
            record,
            provenance={
                **record.provenance,
                "packages": {"numpy": version},
                "typed": ["harness", "sweep", "affinity=ising", "workspace=/home/me"],
            },
        )
        for record, version in zip(records, versions, strict=True)
    ]
    lineage = Lineage.of(built, "harness leaderboard")
    assert lineage.lock == {"numpy": ("1.0", "2.0")}
    assert lineage.sweeps == ("harness sweep affinity=ising",)
    assert lineage.records == {record.cell.id: record.digest for record in built}
    for name, text in files(build(built), lineage).items():
        if not name.endswith(".csv"):
            assert "harness leaderboard" in text
            assert all(digest in text for digest in lineage.records.values())


def test_the_digest_of_a_record_is_of_its_content_not_its_layout(records: list[Record]) -> None:
    compact = json.dumps(json.loads(records[0].to_json()))
    assert parse_record(compact, "a", "").digest == records[0].digest
    assert replace(records[0], reason="x").digest != records[0].digest


def test_a_board_and_its_records_agree(board: Path, records: list[Record]) -> None:
    assert disagreements(board, records) == []
    assert disagreements(board, records[::-1]) == []


def test_an_edited_board_is_reported_with_row_and_figure(board: Path, records: list[Record]) -> None:
    data = json.loads((board / "board.json").read_text())
    data["boards"][0]["rows"][0]["passed"] = 7
    (board / "board.json").write_text(json.dumps(data))
    found = disagreements(board, records)
    assert "table 1, row 'a': passed: the board has 7, its records make 2" in found
    (board / "board.md").write_text((board / "board.md").read_text().replace("2/2", "3/2"))
    (board / "board.csv").unlink()
    found = disagreements(board, records)
    assert {"board.md differs from what these records make", "board.csv is missing"} <= set(found)


def test_a_changed_missing_or_additional_record_is_named(board: Path, records: list[Record], make_record: Make) -> None:
    other = replace(records[0], reason="edited")
    found = disagreements(board, [other, *records[2:], make_record(method="c", subject="s0", cell="cs0")])
    assert any(line.startswith("record as0 was changed: its digest is") for line in found)
    assert "record as1 is missing" in found
    assert "record cs0 is not on the board" in found
    assert "table 1, row 'c': its records make it, the board lacks it" in found


def test_figures_drawn_by_another_version_are_accepted(board: Path, records: list[Record]) -> None:
    page = board / "board.html"
    page.write_text(page.read_text().replace("seconds per cell</text>", "drawn otherwise</text>"))
    assert disagreements(board, records) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"schema": "closure-harness/board/1"}',
        '{"schema": "closure-harness/board/1", "made": {}, "boards": [3]}',
        '{"schema": "closure-harness/board/2"}',
        '{"schema": "x/9", "boards": [], "lineage": {"command": "", "records": {}}}',
    ],
)
def test_a_file_that_is_not_a_board_is_refused(tmp_path: Path, text: str, records: list[Record]) -> None:
    (tmp_path / "board.json").write_text(text)
    with pytest.raises(HarnessError, match=r"damaged|schema"):
        disagreements(tmp_path, records)
    with pytest.raises(HarnessError, match="holds no board"):
        disagreements(tmp_path / "elsewhere", records)


def test_a_board_with_invalid_values_disagrees_without_a_crash(board: Path, records: list[Record]) -> None:
    data = json.loads((board / "board.json").read_text())
    (board / "board.json").write_text(json.dumps({**data, "boards": [{"rows": [3]}]}))
    assert "board.json does not read as a board" in disagreements(board, records)[0]


# ----------------------------------------------------------------------------------------------------------------------
# Submitted records
# ----------------------------------------------------------------------------------------------------------------------


def wrong(added: list[Record], present: list[Record]) -> list[str]:
    return problems({f"{record.cell.id}.json": record for record in added}, present, registry())


def test_records_of_a_new_method_on_all_tasks_have_no_problem(records: list[Record]) -> None:
    added = [changed(record, row="c", method="c", id=f"c{i}") for i, record in enumerate(records[:2])]
    assert wrong(added, records) == []
    assert wrong(records, records) == []  # the same ones again


def test_a_missing_task_is_named_with_the_command_to_run(records: list[Record]) -> None:
    (found,) = wrong([changed(records[0], row="c", method="c", id="c0")], records)
    task = "s1 · synthetic_induction (successor) · zero"
    assert found == f"c: no record of task '{task}'; run: harness run subject=s1 partitioner=spectral"


def test_a_different_protocol_is_described_by_its_differing_settings(records: list[Record]) -> None:
    added = changed(replace(records[0], config={**records[0].config, "split": "none"}), protocol="p2")
    (found,) = wrong([added], records)
    assert "its protocol (p2) is not the board's: split is none, the board has half" in found


def test_a_different_task_or_different_examples_are_named(records: list[Record]) -> None:
    another = changed(records[0], subject="s9", row="c", id="c0")
    other = replace(another, provenance={"batch": {"n": 50, "digest": "other"}})
    assert any("is not on the board, which has s0" in line for line in wrong([another], records))
    assert any("has other examples on the board" in line for line in wrong([changed(other, subject="s0")], records))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"status": Status.FAILED}, "the cell is failed"),
        ({"config": {"group": ["L0H1"]}}, "named by hand"),
    ],
)
def test_records_that_do_not_judge_a_method_are_refused(
    records: list[Record], change: dict[str, Any], problem: str
) -> None:
    assert any(problem in line for line in wrong([replace(records[0], **change)], records))


def test_no_record_of_the_board_is_replaced(records: list[Record]) -> None:
    better = replace(records[0], reason="better")
    assert any("the board already has this method on this task (cell as0)" in line for line in wrong([better], records))
    twice = [changed(r, row="c", method="c", id="same") for r in records[:2]]
    assert (
        sum(
            "cell same occurs twice" in line
            for line in problems(dict(zip("xy", twice, strict=True)), records, registry())
        )
        == 2
    )


def test_inconsistent_numbers_are_reported(records: list[Record], make_effect: Make) -> None:
    """99 controls with less damage: p = 1 / 100. The verdict follows from p and the intervals."""

    def problems_with(**changes: Any) -> list[str]:
        closure = replace(records[0].closure[0], **changes)
        added = [changed(replace(r, closure=(closure,)), row="c", id=f"c{i}") for i, r in enumerate(records[:2])]
        return wrong(added, records)

    assert problems_with() == []
    assert any("its verdict is null, but its numbers make pass" in line for line in problems_with(verdict=Verdict.NULL))
    forged = {"target_logit": make_effect(p=0.001, p_adjusted=0.001), "accuracy": make_effect()}
    assert any("p is 0.001, but its 99 compared groups make 0.01" in line for line in problems_with(effects=forged))
    lowered = {"target_logit": make_effect(p_adjusted=0.001), "accuracy": make_effect()}
    assert any("corrected p 0.001 is below p 0.01" in line for line in problems_with(effects=lowered))


def test_files_that_are_not_records_are_named_by_file_and_line(records: list[Record], tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "record.json").write_text(records[0].to_json())
    old = json.dumps({**json.loads(records[0].to_json()), "schema": "closure-harness/record/1"})
    good = json.dumps(json.loads(records[1].to_json()))
    (tmp_path / "records.jsonl").write_text(f"{good}\n{old}\n{{\n")
    found, damaged = read_records(tmp_path)
    assert list(found) == ["records.jsonl:1", "x/record.json"]
    assert damaged[0].startswith("records.jsonl:2: record records.jsonl:2 has schema 'closure-harness/record/1'")
    assert damaged[1].startswith("records.jsonl:3: record records.jsonl:3 is damaged")


def test_records_beside_a_board_are_read_back(records: list[Record], tmp_path: Path) -> None:
    """Whatever characters they hold: some of them end a line elsewhere."""
    hostile = replace(records[0], reason="a\u2028b\x85c\x0bd")
    write_records(tmp_path, [hostile, *records[1:]])
    found, problems = read_records(tmp_path)
    assert (list(found.values()), problems) == ([hostile, *records[1:]], [])
    assert [path.name for path in tmp_path.iterdir()] == [RECORDS]


@pytest.mark.parametrize("content", [b"", b"no archive", lzma.compress(b"{}\n")[:-9]])
def test_a_damaged_file_of_records_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / RECORDS).write_bytes(content)
    found, problems = read_records(tmp_path)
    assert (found, len(problems)) == ({}, 1)
    assert problems[0].startswith(RECORDS)


def test_a_file_that_grows_beyond_bounds_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.board.records_file.MOST_BYTES", 2**20)
    (tmp_path / RECORDS).write_bytes(lzma.compress(bytes(2**21)))
    assert read_records(tmp_path) == ({}, [f"{RECORDS}: the file holds more than 1 MB of records."])


# ----------------------------------------------------------------------------------------------------------------------
# Names are whatever their authors wrote
# ----------------------------------------------------------------------------------------------------------------------


def test_hostile_names_are_escaped(make_record: Make) -> None:
    record = make_record(method=HOSTILE, subject=HOSTILE, cell="c", split=HOSTILE)
    hostile = replace(
        record,
        reason=HOSTILE,
        provenance={
            **record.provenance,
            "command": f"harness run x='{HOSTILE}'",
            "typed": [HOSTILE],
            "commit": HOSTILE,
        },
    )
    records = [hostile, make_record(method="b", subject=HOSTILE, cell="d", status=Status.FAILED)]
    written = files(build(records), Lineage.of(records, "harness leaderboard"))
    for name in ("board.html", "board.md"):
        assert "alert(1)" in written[name]
        shown = [line for line in written[name].splitlines() if name == "board.html" or not line.startswith("    ")]
        assert "<script>alert" not in "\n".join(shown)  # in Markdown an indented line is code
    table = [line for line in written["board.md"].splitlines() if line.startswith("|")]
    assert len({line.replace("\\|", "").count("|") for line in table}) == 1
    assert "](http" not in "\n".join(table)
    assert "\x1b" not in written["board.md"]


def test_a_page_needs_no_network_and_is_small(records: list[Record]) -> None:
    page = files(build(records), Lineage.of(records, "harness leaderboard"))["board.html"]
    assert len(page.encode()) < 1_500_000
    for asking in ('src="http', "src='http", 'href="http', "@import", "url(http", "url(//"):
        assert asking not in page


def test_the_page_of_a_grid_is_small_too(make_record: Make) -> None:
    """27 methods on three tasks, with long commands."""
    records = [make_record(method=f"method {i}", subject=f"s{j}", cell=f"{i}-{j}") for i in range(27) for j in range(3)]
    affinity = {"name": "mine", **{f"key{i}": "value" for i in range(20)}}
    long = [replace(record, config={**record.config, "affinity": affinity}) for record in records]
    page = files(build(long), Lineage.of(long, "harness leaderboard"))["board.html"]
    assert len(page.encode()) < 600_000
