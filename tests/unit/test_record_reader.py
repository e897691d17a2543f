"""The one reader of records: what no later step could use is refused, and the record and field are named."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.records.reader import MOST_BYTES, parse_record, read_record
from harness.records.record import Record
from harness.records.workspace import Workspace
from harness.util.errors import HarnessError

Make = Callable[..., Record]
Json = dict[str, Any]
OLD = Path(__file__).parents[1] / "old"


@pytest.fixture
def text(make_record: Make) -> str:
    return make_record(alpha=0.05, seed=0).to_json()


@pytest.mark.parametrize(
    "value",
    ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "9" * 400, "9" * 9999, str(2**63), '"\\ud800"', "[" * 9999],
)
@pytest.mark.parametrize("where", ['"alpha": ', '"z": ', '"closure": '])
def test_values_that_cannot_be_used_or_written_again_are_refused(text: str, where: str, value: str) -> None:
    """In a free-form field, in a figure, in seconds."""
    start = text.index(where) + len(where)
    end = start + next(i for i, letter in enumerate(text[start:]) if letter in ",\n}")
    with pytest.raises(HarnessError, match="record 3f9c is damaged"):
        parse_record(text[:start] + value + text[end:], "3f9c", "")


def edit(*keys: str | int, value: Any) -> Callable[[Json], None]:
    def change(data: Json) -> None:
        inside: Any = data
        for key in keys[:-1]:
            inside = inside[key]
        inside[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (edit("cell", "id", value="../../x"), "cell.id: '../../x' is not the id of a cell"),
        (edit("cell", "id", value="/etc"), "cell.id"),
        (edit("cell", "id", value=".."), "cell.id"),
        (edit("cell", "id", value=""), "cell.id"),
        (edit("cell", "id", value="a\nb"), "cell.id"),
        (edit("cell", "id", value="a\\b"), "cell.id"),
        (edit("config", "alpha", value="high"), "config.alpha: "),
        (edit("config", "seed", value=[1]), "config.seed: "),
        (edit("config", "group", value="L0H0"), "config.group: "),
        (edit("config", "affinity", value="ising"), "config.affinity: "),
        (edit("config", "metric", value=["loss"]), "config.metric: "),
        (edit("config", "partitioner", "name", value=3), "config.partitioner.name: "),
        (edit("provenance", "batch", value="digest"), "provenance.batch: "),
        (edit("provenance", "batch", "n", value="many"), "provenance.batch.n: "),
        (edit("provenance", "packages", value=["numpy"]), "provenance.packages: "),
        (edit("provenance", "typed", value="rm -rf ~"), "provenance.typed: "),
        (edit("provenance", "started", value="yesterday"), "provenance.started: "),
        (edit("provenance", "subject", value={"circuits": {"a": 3}}), "provenance.subject.circuits.a: "),
        (edit("provenance", "plugins", value={"affinity": 1}), "provenance.plugins.affinity: "),
        (edit("diagnostics", "affinity", value=7), "diagnostics.affinity: "),
        (edit("units", 0, value="L0H1"), "units: a unit space names unit 'L0H1' twice"),
        (edit("sites", 0, "units", value=10**9), "sites: they do not hold the 5 units"),
        (edit("sites", 0, "units", value=-1), "sites: "),
        (edit("classes", value=["a"]), "classes: 1 for 5 units"),
        (edit("partitions", 0, "labels", value=[0, 1]), "partitions.0.labels: 2 for 5 units"),
        (edit("partitions", 0, "labels", value=[0, 1, 1, 1, -7]), "partitions.0.labels: -7 is no group"),
        (edit("candidates", 0, "units", value=["L99H99"]), "candidates.0.units: 'L99H99' is no unit of the subject"),
        (edit("closure", 0, "units", value=["L0H1", "L0H1", "L1H0"]), "closure.0.units: a unit occurs twice"),
        (edit("closure", 0, "units", value=[]), "closure.0.units: there are none"),
        (edit("closure", 0, "effects", value={}), "closure.0.effects: there are none"),
        (edit("closure", 0, "groups", value=[[99]]), "closure.0.groups: "),
        (edit("closure", 0, "dispensable", value=["L0H0"]), "closure.0.dispensable: "),
        (edit("closure", 0, "effects", "target_logit", "damage", value=0), "closure.0.effects.target_logit.damage: 0"),
        (edit("closure", 0, "effects", "target_logit", "z", value=True), "closure.0.effects.target_logit.z"),
        (edit("closure", 0, "effects", "target_logit", "z", value="0.5"), "closure.0.effects.target_logit.z"),
        (edit("closure", 0, "anatomy", "target_logit", "necessity", value=[1.0]), "1 numbers for 3 units"),
        (edit("closure", 0, "anatomy", "target_logit", "dispensable", value=[9]), "a position is no unit"),
        (edit("unit_damage", "loss", value={"L9H9": 1.0}), "unit_damage.loss: 'L9H9' is no unit"),
    ],
)
def test_parts_that_contradict_each_other_or_their_use_are_named(
    text: str, change: Callable[[Json], None], problem: str
) -> None:
    data = json.loads(text)
    change(data)
    with pytest.raises(HarnessError, match="record 3f9c is damaged") as caught:
        parse_record(json.dumps(data), "3f9c", "")
    assert problem in caught.value.what


@pytest.mark.parametrize("chosen", [99, -1, "k = 2", [0]])
def test_an_old_record_that_chose_a_partition_it_does_not_have_is_refused(chosen: object) -> None:
    data = json.loads((OLD / "record_3.json").read_text())
    with pytest.raises(HarnessError, match="record 3f9c is damaged"):
        parse_record(json.dumps({**data, "chosen": chosen}), "3f9c", "")


@pytest.mark.parametrize("name", ["record_2.json", "record_3.json", "record_4.json", "record_5.json", "record_6.json"])
@pytest.mark.parametrize("part", ["closure", "candidates", "partitions", "config", "provenance", "units"])
@pytest.mark.parametrize("value", [None, 3, "text", [3], [[]]])
def test_an_old_record_with_a_part_of_a_wrong_type_is_refused(name: str, part: str, value: object) -> None:
    data = json.loads((OLD / name).read_text())
    with pytest.raises(HarnessError, match="record 3f9c is damaged"):
        parse_record(json.dumps({**data, part: value}), "3f9c", "")


def test_text_that_is_none_is_written_so_that_it_can_be_read(make_record: Make, tmp_path: Path) -> None:
    """A word of a command line can hold bytes that are no UTF-8; Python shows them as half a surrogate pair."""
    record = make_record(cell="a")
    odd = replace(record, provenance={**record.provenance, "typed": ["harness", "run", "x=\udc80"]})
    Workspace.at(tmp_path).write(odd, trace="File '\udc80'")
    found = Workspace.at(tmp_path).find("a")
    assert found is not None
    assert found.provenance["typed"][-1] == "x=?"


# ----------------------------------------------------------------------------------------------------------------------
# Files
# ----------------------------------------------------------------------------------------------------------------------


def test_a_file_larger_than_any_record_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "3f9c" / "record.json"
    path.parent.mkdir()
    with path.open("wb") as file:
        file.truncate(MOST_BYTES + 1)  # a file with a hole: it takes no space
    with pytest.raises(HarnessError, match="record 3f9c is damaged: it is larger than 64 MiB"):
        read_record(path)


def test_a_folder_of_the_name_of_a_record_is_named(make_record: Make, tmp_path: Path) -> None:
    workspace = Workspace.at(tmp_path)
    (workspace.folder("3f9c") / "record.json").mkdir(parents=True)
    with pytest.raises(HarnessError, match="record 3f9c is damaged: Is a directory") as caught:
        workspace.find("3f9c")
    assert "move the file away" in caught.value.fix


def test_a_record_in_the_folder_of_another_cell_is_named(make_record: Make, tmp_path: Path) -> None:
    """Its arrays would be looked for elsewhere, and a copied folder would count twice."""
    workspace = Workspace.at(tmp_path)
    os.rename(workspace.write(make_record(cell="a")), workspace.folder("b"))
    with pytest.raises(HarnessError, match="record b is of cell a"):
        workspace.find("b")


@pytest.mark.parametrize("cell", ["../../x", "..", ".", "", "a/b", "/etc", "a\x00b", "x" * 65])
def test_nothing_outside_the_workspace_is_opened(cell: str, tmp_path: Path) -> None:
    for use in (Workspace.at(tmp_path).folder, Workspace.at(tmp_path).find, Workspace.at(tmp_path).finished):
        with pytest.raises(HarnessError, match="is not the id of a cell"):
            use(cell)


def test_readers_of_many_records_skip_and_name_the_bad_ones(make_record: Make, tmp_path: Path) -> None:
    workspace = Workspace.at(tmp_path)
    good = [make_record(cell=cell) for cell in ("a", "d")]
    for record in good:
        workspace.write(record)
    (workspace.folder("b") / "record.json").mkdir(parents=True)
    workspace.folder("c").mkdir()
    (workspace.folder("c") / "record.json").write_text(good[0].to_json()[:99])
    workspace.folder("e").mkdir()
    (workspace.folder("e") / "record.json").write_text('{"schema": "closure-harness/record/1"}')
    found, problems = workspace.records()
    assert found == good
    assert [problem.split(":")[0].split(" has ")[0] for problem in problems] == [
        "record b is damaged",
        "record c is damaged",
        "record e",
    ]


@pytest.mark.parametrize("content", [b"", b"not arrays", b"\xff" * 64, b"\x08\0\0\0\0\0\0\0{{{{{{{{"])
def test_damaged_arrays_beside_a_record_are_named(make_record: Make, tmp_path: Path, content: bytes) -> None:
    workspace = Workspace.at(tmp_path)
    folder = workspace.write(make_record(cell="a"))
    assert workspace.arrays("a", "deltas.safetensors") == {}
    (folder / "deltas.safetensors").write_bytes(content)
    with pytest.raises(HarnessError, match=r"deltas\.safetensors is damaged") as caught:
        workspace.arrays("a", "deltas.safetensors")
    assert "--force" in caught.value.fix
