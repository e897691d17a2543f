"""Batches of vectors: clusters made for a subject, and examples from files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from harness import HarnessError, Vectors, Vocabulary, Width, method

INPUTS = np.arange(12, dtype=float).reshape(4, 3)


def batch(**parameters: Any) -> Vectors:
    made = method("batch", "vectors", **parameters)(Width(12, 4))
    assert isinstance(made, Vectors)
    return made


def saved(folder: Path, **arrays: Any) -> str:
    np.savez(folder / "examples.npz", **arrays)
    return str(folder / "examples.npz")


def test_the_own_inputs_of_a_class_are_at_plus_or_minus_two() -> None:
    examples = batch(n=8000)
    own = examples.inputs.reshape(-1, 4, 3)[np.arange(8000), examples.target]
    centred = own * examples.groups["side"][:, None]
    np.testing.assert_allclose(centred.mean(axis=0), 2, atol=5 / np.sqrt(8000))
    np.testing.assert_allclose(own.mean(axis=0), 0, atol=5 * np.sqrt(5 / 8000))  # variance 1 + 2^2
    assert set(np.bincount(examples.target) > 1800) == {True}


def test_a_linear_readout_of_the_clusters_is_at_chance_and_the_nearest_centre_is_not() -> None:
    examples = batch(n=4000)
    design = np.column_stack([examples.inputs, np.ones(4000)])
    readout = np.linalg.lstsq(design, np.eye(4)[examples.target], rcond=None)[0]
    linear = ((design @ readout).argmax(axis=1) == examples.target).mean()
    nearest = (np.abs(examples.inputs.reshape(-1, 4, 3).sum(axis=2)).argmax(axis=1) == examples.target).mean()
    assert linear < 0.35
    assert nearest > 0.95


def test_a_counterfactual_differs_only_in_the_inputs_of_the_two_classes() -> None:
    examples = batch(n=200)
    other = examples.counterfactual
    assert other is not None
    assert (other.target != examples.target).all()
    changed = (other.content != examples.inputs).reshape(-1, 4, 3).any(axis=2)
    two_classes = np.eye(4, dtype=bool)[examples.target] | np.eye(4, dtype=bool)[other.target]
    np.testing.assert_array_equal(changed, two_classes)


def test_clusters_follow_from_the_seed() -> None:
    assert batch(n=5).digest == batch(n=5).digest != batch(n=5, seed=7).digest


@pytest.mark.parametrize("width", [Width(3, 4), Width(12, 1)])
def test_clusters_need_two_classes_and_an_input_for_each(width: Width) -> None:
    with pytest.raises(HarnessError, match="clusters need two classes and an input for each") as caught:
        method("batch", "vectors")(width)
    assert "batch.path=" in caught.value.fix


def test_a_file_has_inputs_targets_counterfactuals_and_properties(tmp_path: Path) -> None:
    parts = {
        "inputs": INPUTS,
        "target": [0, 1, 2, 3],
        "counterfactual_inputs": -INPUTS,
        "counterfactual_target": [1] * 4,
    }
    examples = batch(path=saved(tmp_path, **parts, domain=np.array(["a", "b", "a", "b"])))
    np.testing.assert_array_equal(examples.inputs, INPUTS)
    np.testing.assert_array_equal(examples.counterfactual_batch.inputs, -INPUTS)
    assert examples.target_kind == "class"
    assert examples.groups["domain"].tolist() == ["a", "b", "a", "b"]


def test_a_subset_of_a_file_follows_from_the_seed(tmp_path: Path) -> None:
    save_file({"inputs": INPUTS, "target": INPUTS[:, :2]}, tmp_path / "examples.safetensors")
    path = str(tmp_path / "examples.safetensors")
    part = batch(path=path, n=3)
    assert part.target_kind == "outputs"
    assert {tuple(row) for row in part.inputs.tolist()} < {tuple(row) for row in INPUTS.tolist()}
    assert part.digest == batch(path=path, n=3).digest
    with pytest.raises(HarnessError, match="it has 4 examples; 5 were requested"):
        batch(path=path, n=5)


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"inputs": INPUTS}, "it has no array 'target' .arrays: inputs"),
        ({"inputs": INPUTS[0], "target": [0]}, r"inputs has the shape \(3,\)"),
        ({"inputs": INPUTS, "target": [0.5, 1, 2, 3]}, "numbers that are not whole"),
        ({"inputs": INPUTS, "target": ["a", "b", "c", "d"]}, "target has the shape"),
        ({"inputs": INPUTS, "target": [0, 1, 2]}, "4 examples but 3 entries in 'target'"),
        ({"inputs": INPUTS * np.nan, "target": [0, 1, 2, 3]}, "inputs contains NaN"),
    ],
)
def test_a_file_with_a_wrong_part_is_refused(arrays: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=says):
        batch(path=saved(tmp_path, **arrays))


def test_files_that_are_not_there_or_not_arrays_are_refused(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=r"batch\.path=gone\.npz: the file does not exist"):
        batch(path="gone.npz")
    for name in ("a.npz", "a.safetensors"):
        (tmp_path / name).write_bytes(b"no")
        with pytest.raises(HarnessError, match=r"it is not a \.\w+ file of numbers"):
            batch(path=str(tmp_path / name))
    (tmp_path / "a.pt").write_bytes(b"no")
    with pytest.raises(HarnessError, match=r"a \.pt file is not read"):
        batch(path=str(tmp_path / "a.pt"))


def test_the_content_of_the_file_is_its_identity(tmp_path: Path) -> None:
    path = saved(tmp_path, inputs=INPUTS, target=[0, 1, 2, 3])
    before = method("batch", "vectors", path=path).fingerprint()
    saved(tmp_path, inputs=INPUTS + 1, target=[0, 1, 2, 3])
    assert method("batch", "vectors", path=path).fingerprint() != before


def test_tokens_are_not_vectors_and_the_reverse() -> None:
    with pytest.raises(HarnessError, match="the subject reads token sequences"):
        batch(n=4).check(Vocabulary(10, 10))
    with pytest.raises(HarnessError, match="inputs has 12 numbers per example; the subject has 5"):
        batch(n=4).check(Width(5, 4))
    with pytest.raises(HarnessError, match="outside the subject's 2 outputs"):
        batch(n=40).check(Width(12, 2))
