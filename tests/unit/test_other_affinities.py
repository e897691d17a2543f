"""Affinities without observations: random, by layer, and read from a file."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from harness.data.grouping import Affinity
from harness.data.units import UnitSpace
from harness.registry.config import registry
from harness.util.errors import HarnessError

UNITS = UnitSpace.heads([3, 2, 1])


def make(name: str, units: UnitSpace = UNITS, **parameters: Any) -> Affinity:
    affinity: Affinity = registry().get("affinity", name).build(parameters)(units)
    return affinity


def ordered(order: list[int], units: UnitSpace = UNITS) -> UnitSpace:
    return UnitSpace(tuple(units.units[i] for i in order))


@pytest.mark.parametrize("name", ["random", "same_layer"])
@given(order=st.permutations(range(6)))
def test_affinities_of_units_alone_do_not_depend_on_their_order(name: str, order: list[int]) -> None:
    np.testing.assert_array_equal(make(name, ordered(order)).matrix, make(name).matrix[np.ix_(order, order)])


def test_random_affinities_are_uniform_between_zero_and_one() -> None:
    matrix = make("random", UnitSpace.heads([20] * 10)).matrix
    drawn = matrix[np.triu_indices(200, 1)]
    assert scipy.stats.kstest(drawn, "uniform").pvalue > 0.01
    np.testing.assert_array_equal(matrix, matrix.T)


def test_random_affinities_depend_only_on_the_seed() -> None:
    np.random.seed(1)
    first = make("random", seed=3).matrix
    np.random.seed(2)
    np.testing.assert_array_equal(make("random", seed=3).matrix, first)
    assert not np.allclose(make("random", seed=4).matrix, first)
    assert np.random.random() == np.random.RandomState(2).random()


def test_units_have_affinity_one_within_a_layer_and_zero_across() -> None:
    expected = np.zeros((6, 6))
    for i, j in [(0, 1), (0, 2), (1, 2), (3, 4)]:
        expected[i, j] = expected[j, i] = 1
    np.testing.assert_array_equal(make("same_layer").matrix, expected)


# ----------------------------------------------------------------------------------------------------------------------
# Precomputed
# ----------------------------------------------------------------------------------------------------------------------


def symmetric(n: int = 6, seed: int = 0) -> np.ndarray:
    upper = np.triu(np.random.default_rng(seed).normal(size=(n, n)), 1)
    return upper + upper.T


def saved(folder: Path, matrix: Any, name: str = "J.npy") -> str:
    np.save(folder / name, matrix)
    return str(folder / name)


def test_the_published_couplings_are_loaded_unchanged(reference: Path) -> None:
    units = UnitSpace.heads([16] * 16)
    found = make("precomputed", units, path=str(reference / "J.npy"))
    np.testing.assert_array_equal(found.matrix, np.load(reference / "J.npy"))
    assert np.linalg.norm(found.matrix) == pytest.approx(23.470, abs=5e-4)  # as published
    assert not found.diagnostics
    for transform in ("abs", "positive"):
        other = make("precomputed", units, path=str(reference / "J.npy"), transform=transform).matrix
        np.testing.assert_array_equal(other, np.abs(found.matrix) if transform == "abs" else found.matrix.clip(0))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "uint16", "bool", ">f8"])
def test_numbers_of_any_width_are_read(tmp_path: Path, dtype: str) -> None:
    matrix = (np.abs(symmetric()) > 0.5).astype(dtype)
    found = make("precomputed", path=saved(tmp_path, matrix)).matrix
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, matrix.astype(float))


def test_an_archive_of_several_arrays_needs_a_key(tmp_path: Path) -> None:
    np.savez(tmp_path / "one.npz", couplings=symmetric())
    np.savez_compressed(tmp_path / "two.npz", h=np.zeros(6), J=symmetric())
    np.testing.assert_array_equal(make("precomputed", path=str(tmp_path / "one.npz")).matrix, symmetric())
    np.testing.assert_array_equal(make("precomputed", path=str(tmp_path / "two.npz"), key="J").matrix, symmetric())
    with pytest.raises(HarnessError, match=r"two\.npz: the file has 2 arrays \(h, J\)\.\nChoose one: affinity\.key=h"):
        make("precomputed", path=str(tmp_path / "two.npz"))
    with pytest.raises(HarnessError, match=r"array 'K' is not known\.(.|\n)*options: J, h"):
        make("precomputed", path=str(tmp_path / "two.npz"), key="K")
    np.savez(tmp_path / "none.npz")
    with pytest.raises(HarnessError, match="the file has 0 arrays"):
        make("precomputed", path=str(tmp_path / "none.npz"))


def test_a_diagonal_is_set_to_zero_and_noted(tmp_path: Path) -> None:
    found = make("precomputed", path=saved(tmp_path, symmetric() + np.eye(6)))
    np.testing.assert_array_equal(found.matrix, symmetric())
    assert found.diagnostics == {"diagonal": "set to zero"}


def test_rounding_in_single_precision_is_not_an_asymmetry(tmp_path: Path) -> None:
    matrix = symmetric()
    matrix[0, 1] *= 1 + 1e-7
    found = make("precomputed", path=saved(tmp_path, matrix)).matrix
    np.testing.assert_array_equal(found, found.T)
    np.testing.assert_allclose(found, symmetric(), rtol=1e-7)


def test_a_path_may_start_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    saved(tmp_path, symmetric())
    np.testing.assert_array_equal(make("precomputed", path="~/J.npy").matrix, symmetric())


def test_the_content_of_the_file_is_part_of_the_identity_of_a_cell(tmp_path: Path) -> None:
    def fingerprint(path: str) -> str:
        digest: str = registry().get("affinity", "precomputed").build({"path": path}).fingerprint()
        return digest

    first = fingerprint(saved(tmp_path, symmetric(seed=0)))
    assert fingerprint(saved(tmp_path, symmetric(seed=0))) == first
    assert fingerprint(saved(tmp_path, symmetric(seed=1))) != first
    assert fingerprint("") == fingerprint(str(tmp_path / "nowhere.npy")) == fingerprint(str(tmp_path)) == ""


def refusal(path: str) -> HarnessError:
    with pytest.raises(HarnessError) as caught:
        make("precomputed", path=path)
    assert caught.value.what.startswith(f"affinity.path={path}: ")
    assert caught.value.fix
    return caught.value


def test_a_missing_path_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="no file is given") as caught:
        make("precomputed")
    assert "affinity.path=J.npy" in caught.value.fix
    assert "the file does not exist" in refusal(str(tmp_path / "J.npy")).what
    assert "it is a folder" in refusal(str(tmp_path)).what


class Harmful:
    """Code that would run when the file is loaded."""

    def __reduce__(self) -> Any:
        return print, ("loaded",)


@pytest.mark.filterwarnings("error")
def test_files_without_a_plain_array_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "J.txt").write_text("0,1\n1,0\n")
    assert "a .txt file is not read" in refusal(str(tmp_path / "J.txt")).what
    for name, content in {"empty.npy": b"", "text.npy": b"0,1", "text.npz": b"PK\x03\x04 nothing"}.items():
        (tmp_path / name).write_bytes(content)
        assert "file of numbers" in refusal(str(tmp_path / name)).what
    whole = Path(saved(tmp_path, symmetric())).read_bytes()
    (tmp_path / "half.npy").write_bytes(whole[: len(whole) // 2])
    assert "its header says 288 bytes, of shape (6, 6), and the file has 80" in refusal(str(tmp_path / "half.npy")).what

    np.save(tmp_path / "objects.npy", np.array([[Harmful()]], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "objects.npz", J=np.array([[Harmful()]], dtype=object))
    for name in ("objects.npy", "objects.npz"):
        error = refusal(str(tmp_path / name))
        assert "Object arrays cannot be loaded" in error.what
        assert "can run code" in error.fix
    assert "loaded" not in capsys.readouterr().out


@pytest.mark.parametrize("matrix", [np.array([["a"]]), np.array([[1j]]), np.array([["2020-01-01"]], dtype="M8[D]")])
def test_entries_that_are_not_real_numbers_are_refused(tmp_path: Path, matrix: np.ndarray) -> None:
    assert "they must be real numbers" in refusal(saved(tmp_path, matrix)).what


@pytest.mark.parametrize("shape", [(), (36,), (6, 5), (6, 6, 1)])
def test_a_matrix_that_is_not_square_is_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    assert (
        f"the array has the shape {shape}; it must be a square matrix" in refusal(saved(tmp_path, np.ones(shape))).what
    )


@pytest.mark.parametrize("n", [0, 5, 7])
def test_a_matrix_of_another_size_than_the_subject_is_refused(tmp_path: Path, n: int) -> None:
    error = refusal(saved(tmp_path, symmetric(n)))
    assert f"the matrix has {n} rows, and the subject has 6 units" in error.what
    assert "subject.units=" in error.fix


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_entries_that_are_not_finite_are_refused_and_the_first_unit_is_named(tmp_path: Path, bad: float) -> None:
    matrix = symmetric()
    matrix[2, 4] = matrix[4, 2] = bad
    assert "2 rows contain NaN or infinity; the first is that of L0H2" in refusal(saved(tmp_path, matrix)).what


def test_asymmetry_beyond_rounding_is_refused(tmp_path: Path) -> None:
    matrix = symmetric()
    matrix[0, 1] += 3e-6 * np.abs(matrix).max()
    assert "the two entries of L0H0 and L0H1 differ by" in refusal(saved(tmp_path, matrix)).what


def test_an_asymmetric_matrix_is_refused_with_where_and_how_much(tmp_path: Path) -> None:
    matrix = symmetric()
    matrix[1, 3] += 1e-3
    matrix[5, 0] += 0.25
    error = refusal(saved(tmp_path, matrix))
    assert "the two entries of L0H0 and L2H0 differ by 0.25" in error.what
    assert "(matrix + matrix.T) / 2" in error.fix
