"""Records and the workspace: records are read back unchanged, and a failure never loses an existing record."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.cells.provenance import without_password
from harness.closure.verdict import Verdict
from harness.data.units import UnitSpace
from harness.records.reader import read_record
from harness.records.record import SCHEMA, Record, Status
from harness.records.workspace import Workspace, write_atomically
from harness.util.errors import HarnessError

Make = Callable[..., Record]


def write(record: Record, folder: Path) -> Path:
    path = folder / "record.json"
    path.write_text(record.to_json(), encoding="utf-8")
    return path


def damaged(record: Record, folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """The record on disk after an edit."""
    data = json.loads(record.to_json())
    change(data)
    path = folder / "record.json"
    path.write_text(json.dumps(data))
    return path


@pytest.mark.parametrize("status", list(Status))
def test_a_record_is_read_back_unchanged(make_record: Make, status: Status, tmp_path: Path) -> None:
    record = make_record(status=status)
    assert read_record(write(record, tmp_path)) == record


@given(
    baseline=st.floats(allow_nan=False, allow_infinity=False),
    z=st.none() | st.floats(allow_nan=False, allow_infinity=False),
    controls=st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=5).map(tuple),
    verdict=st.sampled_from(Verdict),
    reason=st.text(),
)
def test_every_number_and_character_is_read_back_exactly(
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


def test_infinity_and_nan_are_never_written(make_record: Make, make_effect: Callable[..., Any]) -> None:
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
def test_an_edited_record_is_refused(
    make_record: Make, tmp_path: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    path = damaged(make_record(), tmp_path, change)
    with pytest.raises(HarnessError, match=message) as caught:
        read_record(path)
    assert str(path) in caught.value.fix


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"record"', '{"schema": "closure-harness/record/1"}'])
def test_a_file_that_is_not_a_record_is_refused(text: str, tmp_path: Path) -> None:
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


def test_bytes_that_are_not_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(HarnessError, match="is damaged"):
        read_record(path)


# ----------------------------------------------------------------------------------------------------------------------
# The workspace
# ----------------------------------------------------------------------------------------------------------------------


def test_a_write_leaves_only_the_file(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "file.txt"
    write_atomically(path, "α")
    write_atomically(path, "β")
    assert path.read_text(encoding="utf-8") == "β"
    assert [file.name for file in path.parent.iterdir()] == ["file.txt"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_file(step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file.txt"
    write_atomically(path, "old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, full)
    with pytest.raises(HarnessError, match=r"file.txt cannot be written: No space left on device.\nFree some space"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["file.txt"]


def test_written_files_have_the_permissions_of_the_umask(tmp_path: Path) -> None:
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
def test_a_failed_record_is_kept_until_a_better_one_exists_and_is_never_reused(
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


def test_a_damaged_record_is_replaced_by_the_next_record(make_record: Make, tmp_path: Path) -> None:
    workspace = Workspace.at(tmp_path)
    folder = workspace.write(make_record(cell="c"))
    (folder / "record.json").write_text("{")
    with pytest.raises(HarnessError, match="record c is damaged"):
        workspace.find("c")
    workspace.write(make_record(cell="c", status=Status.FAILED))
    assert workspace.find("c") == make_record(cell="c", status=Status.FAILED)


def test_records_have_a_fixed_order(make_record: Make, tmp_path: Path) -> None:
    workspace = Workspace.at(tmp_path)
    for cell in ("b", "c", "a"):
        workspace.write(make_record(cell=cell))
    assert [record.cell.id for record in workspace.records()[0]] == ["a", "b", "c"]
    assert Workspace.at(tmp_path / "empty").records() == ([], [])
    assert workspace.find("d") is None


def test_a_workspace_inside_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(HarnessError, match="cannot be written to") as caught:
        Workspace.at(tmp_path / "file" / "runs").check_writable()
    assert "workspace=" in caught.value.fix


def test_checking_a_workspace_writes_nothing(tmp_path: Path) -> None:
    Workspace.at(tmp_path / "runs").check_writable()
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_workspace_path_is_absolute_and_expands_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
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


# ----------------------------------------------------------------------------------------------------------------------
# Records of earlier schemas
# ----------------------------------------------------------------------------------------------------------------------

OLD = Path(__file__).parents[1] / "old"


def test_a_record_of_schema_2_is_read_with_every_field_under_its_new_name() -> None:
    """The figures stand in ``tests/old/record_2.json`` under the old names, in brackets."""
    record = read_record(OLD / "record_2.json")
    assert record.schema == SCHEMA
    assert (record.status, record.cell.title.split()[0], record.partition) == (Status.OK, "tiny", record.partitions[4])
    assert record.config["futility"] == 10  # give_up
    assert "give_up" not in record.config
    assert record.provenance["subject"]["shares"] == ["trunk", "inside", "tail", "past"]  # no part of the closure
    (closure,) = record.closure
    assert closure.units == tuple(f"L2H{head}" for head in range(8))
    assert closure.verdict is Verdict.WRONG_DIRECTION
    assert closure.site_ablation == {  # upper_bound
        "target_logit": 7.412610919156577,
        "accuracy": -0.0625,
        "loss": -1.9002227063283499,
    }
    assert closure.inflation == 1.8459832744593563  # widening
    assert closure.dispensable == ()  # idle
    assert closure.stopped_early is True  # given_up
    assert (closure.n_examples, closure.n_controls, closure.shortfall) == (64, 13, {"L2.attn": 8})
    assert closure.effects["loss"].controls[1] == 3.5331415641121566
    anatomy = closure.anatomy["target_logit"]
    assert anatomy.on_input is not None
    assert (anatomy.on_input.n, anatomy.on_input.off_input) == (62, 7.420923486351967)  # off
    assert anatomy.on_input.leakage == 1.0011576251649998
    assert (anatomy.sufficiency, anatomy.leave_one_out, anatomy.dispensable) == (None, None, ())  # kept, shares, idle
    assert (anatomy.interaction, anatomy.contrast) == (None, None)  # elsewhere


def test_a_record_of_schema_3_gets_the_sites_of_its_heads(tmp_path: Path) -> None:
    """Every unit was a head: its layer is read from its label. All numbers stay."""
    old = json.loads((OLD / "record_3.json").read_text())
    record = read_record(OLD / "record_3.json")
    assert (old["schema"], record.schema) == ("closure-harness/record/3", SCHEMA)
    assert record.unit_space == UnitSpace.heads([8] * 4)
    assert [(run.site, run.depth, run.family, run.units) for run in record.sites] == [
        (f"L{layer}.attn", layer, "head", 8) for layer in range(4)
    ]
    assert old["candidates"][0]["layers"] == [2]
    assert record.candidates[0].sites == ("L2.attn",)
    written = json.loads(record.to_json())
    assert old["closure"][0].pop("shortfall") == {"L2": 8}
    assert written["closure"][0].pop("shortfall") == {"L2.attn": 8}
    added = {"stratifier": {"name": "none"}, "scope": "all", "deciding": "all", **ADDED_5, **ADDED_7}
    assert written.pop("config") == {**added, **old.pop("config")}
    _without_what_schema_7_added(written)
    _without_what_schema_5_added(written)
    chosen = [place for place, partition in enumerate(written["partitions"]) if partition.pop("chosen")]
    assert chosen == [old.pop("chosen")]
    assert {partition.pop("stratum") for partition in written["partitions"]} == {""}
    closure = written["closure"][0]
    assert [closure.pop(name) for name in ("scope", "stratum", "n_proposed", "n_tested")] == ["all", "", None, None]
    assert {effect.pop("decides") for effect in closure["effects"].values()} == {True}
    assert record.candidates[0].examples == ()
    changed = ("schema", "candidates", "sites")
    assert {key: value for key, value in written.items() if key not in changed} == {
        key: value for key, value in old.items() if key not in changed
    }
    assert json.loads(record.as_written()) == json.loads((OLD / "record_3.json").read_text())
    assert read_record(write(record, tmp_path)) == replace(record, original="")


ADDED_5 = {
    "test": "disjoint",
    "statistic": "necessity",
    "joint": False,
    "prune": False,
    "check_task": False,
    "size_curve": False,
}


ADDED_7 = {"strata_null": 0}


def _without_what_schema_7_added(written: dict[str, Any]) -> None:
    assert (written.pop("strata"), written.pop("strata_null")) == ([], None)
    assert [(closure.pop("outside"), closure.pop("n_outside")) for closure in written["closure"]] == [
        ({}, None) for _ in written["closure"]
    ]


def _without_what_schema_5_added(written: dict[str, Any]) -> None:
    """Remove the fields that an older record does not have, which are empty in it."""
    assert (written.pop("unit_damage"), written.pop("size_curve")) == ({}, None)
    assert {partition["agreement"].pop("units") for partition in written["partitions"]} == {None}
    for candidate in written["candidates"]:
        assert (candidate.pop("examples"), candidate.pop("pruned")) == ([], [])
    for closure in written["closure"]:
        assert (closure.pop("test"), closure.pop("comparable"), closure.pop("groups")) == ("disjoint", None, [])
        assert (closure.pop("profile"), closure.pop("joint")) == ({}, False)
        assert (closure.pop("task"), closure.pop("task_done")) == ("", None)
        for effect in closure["effects"].values():
            none = ("statistic", "share", "beyond", "changed", "bound")
            assert {effect.pop(name) for name in none} == {None}
            assert (effect.pop("statistics"), effect.pop("disjoint")) == ([], 0)
            assert (effect.pop("harmed"), effect.pop("helped")) == (False, False)
        for inside in closure["anatomy"].values():
            assert inside.pop("necessity") is None


def test_a_record_of_schema_4_is_one_of_the_former_test() -> None:
    """All its numbers stay."""
    old = json.loads((OLD / "record_4.json").read_text())
    record = read_record(OLD / "record_4.json")
    assert (old["schema"], record.schema) == ("closure-harness/record/4", SCHEMA)
    written = json.loads(record.to_json())
    assert written.pop("config") == {**ADDED_5, **ADDED_7, **old.pop("config")}
    _without_what_schema_7_added(written)
    _without_what_schema_5_added(written)
    assert {**written, "schema": old["schema"]} == old
    assert json.loads(record.as_written()) == json.loads((OLD / "record_4.json").read_text())


def test_a_record_of_schema_5_is_kept_as_it_was_written() -> None:
    """It does not say over how many units agreement is."""
    old = json.loads((OLD / "record_5.json").read_text())
    record = read_record(OLD / "record_5.json")
    assert (old["schema"], record.schema) == ("closure-harness/record/5", SCHEMA)
    assert {p.agreement.units for p in record.partitions if p.agreement} == {None}
    assert json.loads(record.as_written()) == old


def test_a_record_of_schema_6_is_one_without_described_strata() -> None:
    """It has strata, but does not say what they hold nor what its groups do outside them. All else stays."""
    old = json.loads((OLD / "record_6.json").read_text())
    record = read_record(OLD / "record_6.json")
    assert (old["schema"], record.schema) == ("closure-harness/record/6", SCHEMA)
    assert [closure.stratum for closure in record.closure] == ["0", "1", "2", "3"]
    written = json.loads(record.to_json())
    _without_what_schema_7_added(written)
    assert written.pop("config") == {**ADDED_7, **old.pop("config")}
    assert {**written, "schema": old["schema"]} == old
    assert json.loads(record.as_written()) == json.loads((OLD / "record_6.json").read_text())


def test_a_record_of_schema_3_that_proposed_nothing_is_read(tmp_path: Path) -> None:
    old = json.loads((OLD / "record_3.json").read_text())
    path = tmp_path / "record.json"
    nothing: dict[str, Any] = {key: [] for key in ("units", "classes", "partitions", "candidates", "closure")}
    path.write_text(json.dumps({**old, **nothing, "status": "failed", "chosen": None}))
    assert (read_record(path).units, read_record(path).sites) == ((), ())


def test_every_optional_part_of_an_old_record_is_read_under_its_new_name(tmp_path: Path) -> None:
    """A decomposed candidate, a contrast batch and the commands, as schema 2 wrote them."""
    data = json.loads((OLD / "record_2.json").read_text())
    data["config"] |= {"give_up": None, "elsewhere": {"name": "natural_text", "n": 6}}
    data["provenance"]["command"] += " give_up=null batch@elsewhere=natural_text 'elsewhere.n=6'"
    data["provenance"]["typed"] = ["harness", "run", "give_up=null", "batch@elsewhere=natural_text", "elsewhere.n=6"]
    data["closure"][0]["idle"] = ["L2H1"]
    data["closure"][0]["anatomy"]["loss"] |= {
        "kept": 0.75,
        "shares": [0.5, 0.25, 0, 0, 0, 0, 0, 0],
        "idle": [1],
        "elsewhere": [-0.5, [-0.75, -0.25]],
    }
    path = tmp_path / "record.json"
    path.write_text(json.dumps(data))
    record = read_record(path)
    assert (record.config["futility"], record.config["contrast"]) == (None, {"name": "natural_text", "n": 6})
    assert record.provenance["command"].endswith("futility=null batch@contrast=natural_text 'contrast.n=6'")
    assert record.provenance["typed"][2:] == ["futility=null", "batch@contrast=natural_text", "contrast.n=6"]
    assert record.closure[0].dispensable == ("L2H1",)
    anatomy = record.closure[0].anatomy["loss"]
    assert (anatomy.sufficiency, anatomy.dispensable) == (0.75, (1,))
    assert anatomy.leave_one_out == (0.5, 0.25, 0, 0, 0, 0, 0, 0)
    assert anatomy.contrast == (-0.5, (-0.75, -0.25))


def test_an_old_record_keeps_the_digest_of_its_original_content() -> None:
    """Schema 2 digested the content as indented JSON, encoded as a string among JSON values and ended by a zero."""
    data = json.loads((OLD / "record_2.json").read_text())
    as_written = json.dumps(data, indent=1, ensure_ascii=False)
    expected = hashlib.sha256(json.dumps(as_written).encode() + b"\0").hexdigest()
    assert read_record(OLD / "record_2.json").digest == expected


def test_an_old_record_is_written_in_the_current_schema_and_read_back(tmp_path: Path) -> None:
    old = read_record(OLD / "record_2.json")
    data = json.loads(old.to_json())
    assert data["schema"] == SCHEMA
    assert "original" not in data
    again = read_record(write(old, tmp_path))
    assert again == replace(old, original="")
    assert again.digest != old.digest
    assert again.to_json() == old.to_json()


@pytest.mark.parametrize("original", ["typed by hand", "", None])
def test_a_record_with_an_added_original_digest_is_refused(
    make_record: Make, tmp_path: Path, original: str | None
) -> None:
    for text in (make_record().to_json(), (OLD / "record_2.json").read_text()):
        path = tmp_path / "record.json"
        path.write_text(json.dumps({**json.loads(text), "original": original}))
        with pytest.raises(HarnessError, match="is damaged: original: unexpected"):
            read_record(path)


@pytest.mark.parametrize("schema", ["closure-harness/record/1", "closure-harness/record/8", "2", 2, None])
def test_a_record_of_an_unreadable_schema_is_refused_with_what_to_do(schema: object, tmp_path: Path) -> None:
    path = tmp_path / "3f9c" / "record.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"schema": schema, "status": "ok"}))
    with pytest.raises(HarnessError) as caught:
        read_record(path)
    older = ", ".join(f"'closure-harness/record/{number}'" for number in (2, 3, 4, 5, 6))
    readable = f"{older} and 'closure-harness/record/7'"
    assert caught.value.what == f"record 3f9c has schema {schema!r}; this harness reads {readable}."
    assert caught.value.fix == f"Redo its cell with the same command and --force, or move the file away: {path}"
