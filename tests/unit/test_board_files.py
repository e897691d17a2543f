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
from harness.board.fragment import table
from harness.board.lineage import Lineage
from harness.board.records_file import RECORDS, read_records, write_records
from harness.board.report import report
from harness.board.table import build
from harness.board.write import files, write_files
from harness.records.reader import parse_record
from harness.records.record import ActiveExample, ExampleRecord, Record, Status
from harness.records.workspace import Workspace
from harness.util.errors import HarnessError

Make = Callable[..., Any]
HOSTILE = "<script>alert(1)</script> | `x` [a](http://evil) \"'\n\x1b[31m $\\frac{$ \u2028</svg>\u202e {{ 7 * 7 }}"


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
    (board / "board.csv").unlink()
    assert "board.csv is missing" in disagreements(board, records)


@pytest.mark.parametrize(
    ("name", "was", "becomes", "problem"),
    [
        ("board.md", "2/2 [", "3/2 [", ", row 'a': passed: the file has '3/2 [0.34, 1.00]', its records make '2/2 ["),
        ("board.md", "- T2: s1", "- T2: s9", ": the file has '- T2: s9 ·"),
        ("board.csv", ",a,", ",b,", "board.csv, row 'a': method: the file has 'b', its records make 'a'"),
        (
            "cells.csv",
            "-2.0",
            "-9.0",
            ", row 'a', s0 · synthetic_induction (successor) · zero: effect: the file has '-9.0'",
        ),
        ("board.html", ">2/2<", ">3/2<", ", row 'a': the file has '"),
        ("board.json", '"closure-harness/board/4",', '"closure-harness/board/4", "x": 1,', "board.json, line 2"),
    ],
)
def test_an_edited_file_is_reported_with_row_and_figure(
    board: Path, records: list[Record], name: str, was: str, becomes: str, problem: str
) -> None:
    text = (board / name).read_text()
    assert was in text
    (board / name).write_text(text.replace(was, becomes, 1))
    (found,) = disagreements(board, records)
    assert found.startswith(name)
    assert problem in found


def test_rows_that_were_taken_away_are_reported(board: Path, records: list[Record]) -> None:
    lines = (board / "board.csv").read_text().splitlines()
    (board / "board.csv").write_text("\n".join(lines[:-1]) + "\n")
    assert f"board.csv has {len(lines) - 2} rows, its records make {len(lines) - 1}" in disagreements(board, records)


def test_what_cannot_be_computed_again_is_marked_as_told(board: Path, records: list[Record]) -> None:
    """On the rows of records that others sent; the board remembers which these are."""
    assert "°" not in "".join((board / name).read_text() for name in ("board.md", "board.html"))
    theirs = {record.cell.id for record in records if record.cell.method == "b"}
    write_files(board, records, "harness leaderboard", theirs)
    rows = {line.split("|")[2].strip(): line for line in (board / "board.md").read_text().splitlines() if "|" in line}
    assert "-2.00 [-2.35, -1.65]°" in rows["b"] or "]°" in rows["b"]
    assert "2.0+°" in rows["b"]
    assert "2/2 [0.34, 1.00] " in rows["b"]  # counted from verdicts, which were computed again
    assert "°" not in rows["a"]
    assert "as told" in (board / "board.md").read_text()
    assert "°" in (board / "board.html").read_text()
    assert disagreements(board, records) == []
    data = json.loads((board / "board.json").read_text())
    assert set(data["lineage"]["added"]) == theirs
    data["lineage"]["added"] = []
    (board / "board.json").write_text(json.dumps(data))
    assert any("row 'b': added" in line for line in disagreements(board, records))


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
# Files of records
# ----------------------------------------------------------------------------------------------------------------------


def test_files_that_are_not_records_are_named_by_file_and_line(records: list[Record], tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "record.json").write_text(records[0].to_json())
    old = json.dumps({**json.loads(records[0].to_json()), "schema": "closure-harness/record/1"})
    good = json.dumps(json.loads(records[1].to_json()))
    (tmp_path / "records.jsonl").write_text(f"{good}\n{old}\n{{\n")
    found, damaged = read_records(tmp_path)
    assert list(found) == ["records.jsonl:1", "x/record.json"]
    assert damaged[0].startswith("record records.jsonl:2 has schema 'closure-harness/record/1'")
    assert damaged[1].startswith("record records.jsonl:3 is damaged")


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


def test_hostile_names_are_escaped_on_the_page_of_a_cell(make_record: Make, make_effect: Make, tmp_path: Path) -> None:
    """Of units, classes, metrics, examples and provenance too. Names of units and sites fit into a line."""
    text = make_record(method=HOSTILE, subject=HOSTILE, cell="c", effects={"METRIC": make_effect()}).to_json()
    in_a_line = "".join(letter for letter in HOSTILE if letter not in "\n\x1b\u2028")
    hostile_names = {in_a_line: ("L0H1", "L0.attn"), HOSTILE: ("METRIC", "induction", "k = 3", "because")}
    for hostile_name, names in hostile_names.items():
        for name in names:
            text = text.replace(f'"{name}"', f'"{json.dumps(hostile_name)[1:-1]} {name}"')
    record = parse_record(text, "c", "")
    shown = ActiveExample(0, 1.0, HOSTILE)
    example = ExampleRecord(0, HOSTILE, HOSTILE, HOSTILE, HOSTILE, -1.0)
    candidate = replace(record.candidates[0], most_active=(shown,), examples=(example,))
    hostile = replace(record, candidates=(candidate,), provenance={**record.provenance, "commit": HOSTILE})
    for page in (report([hostile], Workspace(tmp_path)), report([hostile, hostile], Workspace(tmp_path))):
        assert "alert(1)" in page
        assert "<script>alert" not in page
        assert page.count("</svg>") == page.count("<svg")
        assert "{{ 7 * 7 }}" in page
    assert "<script>alert" not in table([hostile])


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
