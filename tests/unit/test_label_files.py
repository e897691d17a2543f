"""Labels from files: three forms, known classes, and invalid files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.data.grouping import Labels
from harness.data.units import Unit, UnitSpace
from harness.registry.config import registry
from harness.util.errors import HarnessError

UNITS = UnitSpace.heads([2, 2])  # L0H0 L0H1 L1H0 L1H1
PUBLISHED = {
    "model": "made/up",
    "classifications": [
        {"rank": 1, "layer": 1, "head": 0, "classification": "gatekeeper", "integral": 3.5},
        {"rank": 2, "layer": 0, "head": 1, "classification": "unclassified", "integral": 1.5},
    ],
    "all_head_selectivity": {
        f"L{layer}_H{head}": {"gatekeeper": layer + 0.5, "copycat": float(head)} for layer in (0, 1) for head in (0, 1)
    },
}
SURVEYED = {
    "subject": "made-up",
    "units": [
        {"unit": "L0H0", "class": None, "selectivity": {"gatekeeper": 0.5, "copycat": 0.0}},
        {"unit": "L0H1", "class": "unclassified", "selectivity": {"gatekeeper": 0.5, "copycat": 1.0}},
        {"unit": "L1H0", "class": "gatekeeper", "selectivity": {"copycat": 0.0, "gatekeeper": 1.5}},
        {"unit": "L1H1", "class": None, "selectivity": {"gatekeeper": 1.5, "copycat": 1.0}},
    ],
}
PLAIN = {"L1H0": "gatekeeper", "L0H1": "unclassified", "L0H0": None}


def labels(folder: Path, content: Any, units: UnitSpace = UNITS, **parameters: Any) -> Labels:
    path = folder / "labels.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    found: Labels = registry().get("labels", "file").build({"path": str(path), **parameters})(units)
    return found


@pytest.mark.parametrize("form", [PUBLISHED, SURVEYED, PLAIN], ids=["published", "surveyed", "plain"])
def test_classes_are_read_from_each_form(form: Any, tmp_path: Path) -> None:
    found = labels(tmp_path, form)
    assert found.classes == (None, "unclassified", "gatekeeper", None)
    assert found.known.tolist() == [1, 2]
    dropped = labels(tmp_path, form, unclassified="drop")
    assert dropped.classes == (None, None, "gatekeeper", None)


@pytest.mark.parametrize("form", [PUBLISHED, SURVEYED], ids=["published", "surveyed"])
def test_selectivities_are_read_if_all_units_have_them(form: Any, tmp_path: Path) -> None:
    selectivity = labels(tmp_path, form).selectivity
    assert set(selectivity) == {"gatekeeper", "copycat"}
    np.testing.assert_array_equal(selectivity["gatekeeper"], [0.5, 0.5, 1.5, 1.5])
    np.testing.assert_array_equal(selectivity["copycat"], [0.0, 1.0, 0.0, 1.0])


def test_incomplete_selectivities_are_ignored(tmp_path: Path) -> None:
    assert labels(tmp_path, PLAIN).selectivity == {}
    some = dict(list(PUBLISHED["all_head_selectivity"].items())[:3])  # type: ignore[attr-defined]
    assert labels(tmp_path, {**PUBLISHED, "all_head_selectivity": some}).selectivity == {}
    others = {**PUBLISHED["all_head_selectivity"], "L1_H1": {"copycat": 1.0}}  # type: ignore[dict-item]
    assert labels(tmp_path, {**PUBLISHED, "all_head_selectivity": others}).selectivity == {}
    assert labels(tmp_path, {"classifications": PUBLISHED["classifications"]}).selectivity == {}


def test_units_can_have_any_order_and_kind(tmp_path: Path) -> None:
    experts = [Unit(f"L{layer}E{place}", f"L{layer}.experts", layer, "expert") for layer, place in ((1, 3), (0, 7))]
    units = UnitSpace((*experts, Unit.head(0, 2)))
    assert labels(tmp_path, {"L0H2": "a", "L1E3": "b"}, units).classes == ("b", None, "a")


def test_any_label_of_the_subject_is_read(tmp_path: Path) -> None:
    neurons = UnitSpace.from_labels(["linear1:0", "linear1:1", "fc <- in"])
    assert labels(tmp_path, {"linear1:1": "a", "fc <- in": "b"}, neurons).classes == (None, "a", "b")
    with pytest.raises(HarnessError, match="none of the known forms, or names no unit of this subject"):
        labels(tmp_path, {"L0H0": "a"}, neurons)


def test_saved_survey_labels_are_read_back_unchanged(tmp_path: Path) -> None:
    from harness.cli.main import main

    words = ["subject=tiny", "batch.n=32", "batch.length=48", f"workspace={tmp_path}"]
    assert main(["survey", *words]) == 0
    (saved,) = tmp_path.glob("surveys/*.json")
    data = json.loads(saved.read_text())["units"]
    units = UnitSpace.from_labels(entry["unit"] for entry in data)
    found = labels(tmp_path, saved.read_text(), units)
    assert found.classes == tuple(entry["class"] for entry in data)
    np.testing.assert_array_equal(found.selectivity["self"], [entry["selectivity"]["self"] for entry in data])


def test_the_fingerprint_of_a_label_file_is_that_of_its_content(tmp_path: Path) -> None:
    path = tmp_path / "labels.json"
    plugin = registry().get("labels", "file").build({"path": str(path)})
    prints = [plugin.fingerprint()]
    for content in (PLAIN, {**PLAIN, "L1H1": "copycat"}):
        path.write_text(json.dumps(content))
        prints.append(plugin.fingerprint())
    assert prints[0] == ""
    assert len(set(prints)) == 3


def test_every_class_is_unknown_without_labels() -> None:
    found: Labels = registry().get("labels", "none").build({})(UNITS)
    assert found.classes == (None,) * 4
    assert not len(found.known)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "not JSON"),
        ("[1, 2]", "none of the known forms"),
        ("{}", "none of the known forms"),
        ({"model": "made/up"}, "none of the known forms"),
        ({"classifications": {"L0H0": "self"}}, "none of the known forms"),
        ({"classifications": [{"layer": 0, "classification": "self"}]}, "KeyError: 'head'"),
        ({"classifications": ["L0H0"]}, "an entry has the wrong form"),
        (
            {"classifications": [{"layer": 0, "head": 1.5, "classification": "self"}]},
            "'L0H1.5' is not a unit of this subject",
        ),
        ({"units": [{"unit": "L0H0"}]}, "KeyError: 'class'"),
        ({"L0H0": "self", "L2H0": "self"}, "'L2H0' is not a unit of this subject"),
        ({"classifications": [], "all_head_selectivity": {"L0_H2": {}}}, "'L0H2' is not a unit of this subject"),
        ({"L0H0": "self", "size": "2"}, "'size' is not a unit of this subject"),
        ({"L0H0": "self", "L00H0": "local"}, "'L00H0' is not a unit .* Did you mean: L0H0?"),
        ('{"L0H0": "self", "L0H0": "local"}', "'L0H0' occurs twice"),
        ({"units": [{"unit": "L0H0", "class": "a"}, {"unit": "L0H0", "class": "a"}]}, "'L0H0' occurs twice"),
        ({"L0H1": 3}, "the class of L0H1 is 3"),
        ({"L0H1": ""}, "the class of L0H1 is ''"),
        ({"L0H1": ["self"]}, r"the class of L0H1 is \['self'\]"),
        ({"units": [{"unit": "L1H1", "class": "a", "selectivity": {"a": "much"}}]}, "selectivity of L1H1 is not"),
        ('{"units": [{"unit": "L1H1", "class": "a", "selectivity": {"a": NaN}}]}', "NaN is not a number"),
        ({"units": [{"unit": "L1H1", "class": "a", "selectivity": [1.0]}]}, "selectivity of L1H1 is not"),
    ],
)
def test_files_that_are_not_labels_are_refused(content: Any, says: str, tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=rf"labels\.path=.*labels\.json: .*{says}") as caught:
        labels(tmp_path, content)
    assert caught.value.fix
    if "forms" in says or "JSON" in says:
        assert all(form in caught.value.fix for form in ('{"L0H1": "self"', '"units"', '"classifications"'))


def test_a_missing_path_or_file_is_refused(tmp_path: Path) -> None:
    build = registry().get("labels", "file").build
    with pytest.raises(HarnessError, match="labels file: no file is given") as caught:
        build({})(UNITS)
    assert "labels.path=" in caught.value.fix
    with pytest.raises(HarnessError, match=r"labels\.path=.*gone\.json: the file does not exist"):
        build({"path": str(tmp_path / "gone.json")})(UNITS)
    with pytest.raises(HarnessError, match="it is a folder"):
        build({"path": str(tmp_path)})(UNITS)
    with pytest.raises(HarnessError, match=r"labels\.unclassified='keep'"):
        build({"unclassified": "keep"})
