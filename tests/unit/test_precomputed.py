"""Units without a model: how they are given, how they are inferred from a matrix and labels, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.data.units import UnitSpace
from harness.registry.config import registry, resolve
from harness.testing import examples
from harness.util.errors import HarnessError


def subject(**parameters: Any) -> Any:
    return registry().get("subject", "precomputed").build(parameters)()


def matrix(folder: Path, n: int, name: str = "J.npy") -> str:
    np.save(folder / name, np.zeros((n, n)))
    return str(folder / name)


def written(folder: Path, content: Any, name: str = "labels.json") -> str:
    (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return str(folder / name)


# ----------------------------------------------------------------------------------------------------------------------
# Told
# ----------------------------------------------------------------------------------------------------------------------


def test_units_can_be_given_as_layers_by_heads() -> None:
    assert subject(units="3x2").units.labels == ("L0H0", "L0H1", "L1H0", "L1H1", "L2H0", "L2H1")


def test_units_can_be_given_by_a_file(tmp_path: Path) -> None:
    assert subject(units=written(tmp_path, ["L1H3", "L0H0"])).units.labels == ("L1H3", "L0H0")
    assert subject(units=written(tmp_path, {"n_layers": 2, "n_heads": 1})).units.labels == ("L0H0", "L1H0")
    assert subject(units=written(tmp_path, ["first", "linear1:2"])).units.labels == ("first", "linear1:2")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("nonsense", "not JSON"),
        ({"layers": 2}, "none of the known forms"),
        ({"n_layers": "2", "n_heads": 1}, "none of the known forms"),
        ([0, 1], "none of the known forms"),
        (["L0H0", "L0H0"], "twice"),
        ([], "at least one unit"),
        ({"n_layers": 0, "n_heads": 4}, "0 layers of 4 heads are not 1 to"),
    ],
)
def test_files_that_give_no_units_are_refused(content: Any, says: str, tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=says):
        subject(units=written(tmp_path, content))


def test_an_invalid_shape_is_treated_as_a_missing_file() -> None:
    with pytest.raises(HarnessError, match=r"subject\.units=16by16: the file does not exist"):
        subject(units="16by16")


# ----------------------------------------------------------------------------------------------------------------------
# Found from the size of the matrix and the heads that labels name
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "labels",
    [
        {"classifications": [], "all_head_selectivity": {f"L{i}_H{j}": {} for i in range(4) for j in range(3)}},
        {"classifications": [{"layer": 3, "head": 0}, {"layer": 1, "head": 2}]},
        {"units": [{"unit": "L3H1", "class": "self"}, {"unit": "L0H2", "class": None}]},
        {"L3H2": "self", "L0H0": None},
    ],
    ids=["all heads", "published", "surveyed", "plain"],
)
def test_the_one_shape_that_holds_all_labelled_heads_is_found(labels: Any, tmp_path: Path) -> None:
    found = subject(matrix=matrix(tmp_path, 12), labels=written(tmp_path, labels))
    assert found.units == UnitSpace.heads([3, 3, 3, 3])
    assert found.label == "precomputed J"


def test_several_fitting_shapes_are_listed_with_the_override_to_give(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="12 units can have several shapes: 2x6, 3x4, 4x3 ") as caught:
        subject(matrix=matrix(tmp_path, 12), labels=written(tmp_path, {"L1H2": "self"}))
    assert caught.value.fix == "Choose one: subject.units=3x4"


def test_any_shape_fits_without_labels(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="1x6, 2x3, 3x2, 6x1"):
        subject(matrix=matrix(tmp_path, 6))
    assert subject(matrix=matrix(tmp_path, 6), units="2x3").units == UnitSpace.heads([3, 3])


def test_labels_of_another_model_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="12 units cannot have 5 or more layers of 3 or more heads"):
        subject(matrix=matrix(tmp_path, 12), labels=written(tmp_path, {"L4H2": "self"}))


def test_the_size_is_that_of_the_square_matrix_of_an_archive(tmp_path: Path) -> None:
    labels = written(tmp_path, {"L1H2": "self"})
    np.savez(tmp_path / "fit.npz", J=np.zeros((6, 6)), h=np.zeros(6), q=np.zeros((6, 6)))
    assert len(subject(matrix=str(tmp_path / "fit.npz"), labels=labels).units) == 6
    np.savez(tmp_path / "two.npz", J=np.zeros((6, 6)), K=np.zeros((8, 8)))
    with pytest.raises(HarnessError, match=r"must contain square matrices of one size .*\(6, 6\), \(8, 8\)") as caught:
        subject(matrix=str(tmp_path / "two.npz"), labels=labels)
    assert "subject.units=" in caught.value.fix
    assert len(subject(matrix=str(tmp_path / "two.npz"), matrix_key="K", units="2x4").units) == 8
    assert len(subject(matrix=str(tmp_path / "two.npz"), matrix_key="J", labels=labels).units) == 6


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "it is not a .npy file of numbers"),
        (b"1,2\n3,4\n", "it is not a .npy file of numbers"),
        (b"PK\x03\x04 and then nothing", "it is not a .npy file of numbers"),
    ],
)
def test_files_that_are_not_a_matrix_are_refused(content: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / "J.npy").write_bytes(content)
    with pytest.raises(HarnessError, match=rf"affinity\.path=.*J\.npy: {says}"):
        subject(matrix=str(tmp_path / "J.npy"))


def test_pickled_objects_are_not_loaded(tmp_path: Path) -> None:
    np.save(tmp_path / "J.npy", np.array([[{}]]), allow_pickle=True)
    with pytest.raises(HarnessError, match=r"it is not a \.npy file of numbers"):
        subject(matrix=str(tmp_path / "J.npy"))


def test_a_missing_input_is_named(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="nothing gives its units") as caught:
        subject()
    assert "affinity.path=J.npy" in caught.value.fix
    assert "subject.units=16x16" in caught.value.fix
    with pytest.raises(HarnessError, match=r"affinity\.path=gone\.npy: the file does not exist"):
        subject(matrix="gone.npy")
    with pytest.raises(HarnessError, match=r"labels\.path=gone\.json: the file does not exist"):
        subject(matrix=matrix(tmp_path, 4), labels="gone.json")
    np.save(tmp_path / "flat.npy", np.zeros((2, 3)))
    with pytest.raises(HarnessError, match=r"shapes: \(2, 3\)"):
        subject(matrix=str(tmp_path / "flat.npy"))


# ----------------------------------------------------------------------------------------------------------------------
# In a configuration, and at work
# ----------------------------------------------------------------------------------------------------------------------


def test_matrix_and_labels_default_to_those_of_the_cell() -> None:
    words = ["subject=precomputed", "affinity=precomputed", "affinity.path=J.npy", "labels=file", "labels.path=l.json"]
    assert resolve(words, registry())["subject"] == {
        "name": "precomputed",
        "units": "",
        "activity": "",
        "key": "",
        "matrix": "J.npy",
        "matrix_key": "",
        "labels": "l.json",
    }
    assert resolve([*words, "subject.labels=other.json"], registry())["subject"]["labels"] == "other.json"
    assert resolve(["subject=precomputed"], registry())["subject"]["matrix"] is None


def test_the_fingerprint_of_precomputed_is_that_of_its_units(tmp_path: Path) -> None:
    build = registry().get("subject", "precomputed").build
    listed = written(tmp_path, [f"L{i}H{j}" for i in range(2) for j in range(3)], "units.json")
    same = [build({"units": "2x3"}), build({"units": listed})]
    assert len({plugin.fingerprint() for plugin in same}) == 1
    assert build({"units": "3x2"}).fingerprint() != same[0].fingerprint()
    assert build({}).fingerprint() == ""


def test_every_use_of_the_model_is_refused() -> None:
    found = subject(units="2x2")
    assert found.reads is None
    for asks in (
        lambda: found.record(examples.batch(), {}, lambda _: None),
        lambda: found.evaluate(None, [()], None, [], None),
    ):
        with pytest.raises(HarnessError, match="has no model") as caught:
            asks()
        assert "harness propose" in caught.value.fix
        assert "labels=none" in caught.value.fix
