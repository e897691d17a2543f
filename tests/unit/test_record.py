"""Records and the workspace: what is read is what was written, and no failure costs what was there before."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.cells.provenance import without_password
from harness.closure.verdict import Verdict
from harness.records.record import SCHEMA, Record, Status, read_record
from harness.records.workspace import Workspace, write_atomically
from harness.util.errors import HarnessError

Make = Callable[..., Record]


def write(record: Record, folder: Path) -> Path:
    path = folder / "record.json"
    path.write_text(record.to_json(), encoding="utf-8")
    return path


def damaged(record: Record, folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """The record on disk, after somebody has been at it."""
    data = json.loads(record.to_json())
    change(data)
    path = folder / "record.json"
    path.write_text(json.dumps(data))
    return path


@pytest.mark.parametrize("status", list(Status))
def test_a_record_is_read_back_as_it_was_written(make_record: Make, status: Status, tmp_path: Path) -> None:
    record = make_record(status=status)
    assert read_record(write(record, tmp_path)) == record


@given(
    baseline=st.floats(allow_nan=False, allow_infinity=False),
    z=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    controls=st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=5).map(tuple),
    verdict=st.sampled_from(Verdict),
    reason=st.text(),
)
def test_every_number_and_letter_survives_the_disk(
    make_record: Make,
    make_effect: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory,
    baseline: float,
    z: float | None,
    controls: tuple[float, ...],
    verdict: Verdict,
    reason: str,
) -> None:
    record = make_record(
        verdict=verdict, effect=make_effect(baseline=baseline, z=z, controls=controls), note=reason.encode().hex()
    )
    assert read_record(write(record, tmp_path_factory.getbasetemp())) == record


def test_a_record_begins_with_its_schema(make_record: Make) -> None:
    assert next(iter(json.loads(make_record().to_json()).items())) == ("schema", SCHEMA)


def test_infinity_and_nan_never_reach_the_disk(make_record: Make, make_effect: Callable[..., Any]) -> None:
    for value in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="JSON compliant"):
            make_record(effect=make_effect(delta=value)).to_json()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data.update(schema="closure-harness/record/99"), "has schema 'closure-harness/record/99'"),
        (lambda data: data.pop("schema"), "has schema None"),
        (lambda data: data.update(surprise=1), "surprise"),
        (lambda data: data["cell"].update(surprise=1), "cell.surprise"),
        (lambda data: data["closure"][0].update(surprise=1), "closure.0.*surprise"),
        (lambda data: data["closure"][0]["effects"]["target_logit"].update(surprise=1), "closure.0.*surprise"),
        (lambda data: data["partitions"][0]["agreement"].update(surprise=1), "partitions.0.*surprise"),
        (lambda data: data.pop("config"), "config"),
        (lambda data: data["closure"][0].pop("verdict"), "closure.0.*verdict"),
        (lambda data: data.update(status="fine"), "status"),
        (lambda data: data["closure"][0].update(verdict="splendid"), "closure.0.*verdict"),
        (lambda data: data["closure"][0].update(n_controls="many"), "closure.0.*n_controls"),
        (lambda data: data.update(units="L0H0"), "units"),
    ],
)
def test_a_record_that_was_meddled_with_is_refused(
    make_record: Make, tmp_path: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    path = damaged(make_record(), tmp_path, change)
    with pytest.raises(HarnessError, match=message) as caught:
        read_record(path)
    assert str(path) in caught.value.fix


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"record"', '{"schema": "closure-harness/record/1"}'])
def test_what_is_no_record_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_text(text)
    with pytest.raises(HarnessError, match="record"):
        read_record(path)


def test_a_truncated_record_is_refused(make_record: Make, tmp_path: Path) -> None:
    whole = make_record().to_json()
    path = tmp_path / "record.json"
    for length in (10, len(whole) // 2, len(whole) - 1):
        path.write_text(whole[:length])
        with pytest.raises(HarnessError, match="is damaged"):
            read_record(path)


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(HarnessError, match="is damaged"):
        read_record(path)


# ----------------------------------------------------------------------------------------------------------------------
# The workspace
# ----------------------------------------------------------------------------------------------------------------------


def test_a_write_leaves_the_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "file.txt"
    write_atomically(path, "α")
    write_atomically(path, "β")
    assert path.read_text(encoding="utf-8") == "β"
    assert [file.name for file in path.parent.iterdir()] == ["file.txt"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_write_that_fails_leaves_what_was_there(step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.txt"
    write_atomically(path, "old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["file.txt"]


def test_others_may_read_what_is_written_as_the_umask_allows(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        write_atomically(tmp_path / "file.txt", "shared")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file.txt").stat().st_mode) == 0o644


@pytest.mark.parametrize("finished", [Status.OK, Status.SKIPPED])
@pytest.mark.parametrize("worse", [Status.FAILED, Status.INTERRUPTED, Status.INVALID])
def test_a_finished_record_is_never_replaced_by_one_that_failed(
    make_record: Make, tmp_path: Path, finished: Status, worse: Status
) -> None:
    workspace = Workspace.at(tmp_path)
    workspace.write(make_record(cell="c", status=finished))
    workspace.write(make_record(cell="c", status=worse))
    found = workspace.find("c")
    assert found is not None
    assert found.status is finished


@pytest.mark.parametrize("first", [Status.FAILED, Status.INTERRUPTED, Status.INVALID])
def test_a_failure_is_kept_until_there_is_something_better_and_never_served(
    make_record: Make, tmp_path: Path, first: Status
) -> None:
    workspace = Workspace.at(tmp_path)
    workspace.write(make_record(cell="c", status=first))
    assert workspace.find("c") == make_record(cell="c", status=first)
    assert workspace.finished("c") is None
    workspace.write(make_record(cell="c"))
    assert workspace.finished("c") == make_record(cell="c")


def test_a_finished_record_is_replaced_by_a_newer_finished_one(make_record: Make, tmp_path: Path) -> None:
    workspace = Workspace.at(tmp_path)
    workspace.write(make_record(cell="c"))
    workspace.write(make_record(cell="c", verdict=Verdict.NULL))
    assert workspace.finished("c") == make_record(cell="c", verdict=Verdict.NULL)


def test_a_damaged_record_is_replaced_by_whatever_comes_next(make_record: Make, tmp_path: Path) -> None:
    workspace = Workspace.at(tmp_path)
    folder = workspace.write(make_record(cell="c"))
    (folder / "record.json").write_text("{")
    with pytest.raises(HarnessError, match="record c is damaged"):
        workspace.find("c")
    workspace.write(make_record(cell="c", status=Status.FAILED))
    assert workspace.find("c") == make_record(cell="c", status=Status.FAILED)


def test_records_come_in_a_fixed_order(make_record: Make, tmp_path: Path) -> None:
    workspace = Workspace.at(tmp_path)
    for cell in ("b", "c", "a"):
        workspace.write(make_record(cell=cell))
    assert [record.cell.id for record in workspace.records()] == ["a", "b", "c"]
    assert list(Workspace.at(tmp_path / "empty").records()) == []
    assert workspace.find("d") is None


def test_a_workspace_below_a_file_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(HarnessError, match="cannot be written to") as caught:
        Workspace.at(tmp_path / "file" / "runs").check_writable()
    assert "workspace=" in caught.value.fix


def test_checking_a_workspace_leaves_nothing_in_it(tmp_path: Path) -> None:
    Workspace.at(tmp_path / "runs").check_writable()
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_workspace_is_absolute_and_knows_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert Workspace.at("runs").root == tmp_path / "runs"
    assert Workspace.at("~/runs").root == tmp_path / "home" / "runs"


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql://me:secret@host:5432/db", "postgresql://me:***@host:5432/db"),
        ("http://me@host:5000", "http://me@host:5000"),
        ("http://host:5000", "http://host:5000"),
        ("local", "local"),
    ],
)
def test_an_address_is_shown_without_its_password(address: str, shown: str) -> None:
    assert without_password(address) == shown
