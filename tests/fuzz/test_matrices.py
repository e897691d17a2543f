"""Any matrix, and any file in place of one: the affinity that it is, or a sentence."""

from __future__ import annotations

import io
import math
import tempfile
import warnings
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from harness.data.grouping import Affinity
from harness.data.units import UnitSpace
from harness.registry.config import registry
from harness.util.arrays import one_array, shape_of
from tests.fuzz.generated import generated
from tests.fuzz.refusals import unless_refused

DTYPES = st.one_of(
    arrays.integer_dtypes(), arrays.floating_dtypes(), arrays.boolean_dtypes(), arrays.complex_number_dtypes(),
    arrays.unicode_string_dtypes(), arrays.datetime64_dtypes(), st.just(np.dtype([("a", "f4"), ("b", "i2")])),
)  # fmt: skip
ANY = DTYPES.flatmap(lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=0, max_dims=3, max_side=5)))
NUMBERS = st.one_of(st.floats(-1e6, 1e6), st.sampled_from([0.0, 1e-300, 1e300, np.nan, np.inf, -np.inf]))
SQUARES = st.integers(1, 6).flatmap(lambda n: arrays.arrays(float, (n, n), elements=NUMBERS))
SUFFIXES = st.sampled_from([".npy", ".npz", ".safetensors", ".csv"])
MADE = st.integers(2, 12).flatmap(
    lambda n: arrays.arrays(float, (n, n), elements=st.sampled_from([0.0, 0.0, 0.0, 0.2, 1.0, 7.0]))
)


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def affinity_of(path: Path, n: int) -> Affinity | None:
    """The affinity in a file; None where it is refused in a sentence."""
    method = registry().get("affinity", "precomputed").build({"path": str(path)})
    return unless_refused(lambda: method(UnitSpace.heads([n])), "affinity.path=")


@generated(st.one_of(ANY, SQUARES), st.booleans())
def test_any_array(array: np.ndarray, make_symmetric: bool) -> None:
    """A symmetric matrix of finite numbers is the affinity, without its diagonal; anything else is refused."""
    if make_symmetric and array.ndim == 2 and array.shape[0] == array.shape[1] and array.dtype.kind == "f":
        array = np.maximum(array, array.T)
    n = len(array) if array.ndim else 1
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "J.npy").write_bytes(npy(array))
        found = affinity_of(Path(folder) / "J.npy", max(n, 1))
    if found is not None:
        expected = array.astype(float)
        assert np.isfinite(expected).all()
        np.fill_diagonal(expected, 0)
        np.testing.assert_allclose(found.matrix, expected, atol=2e-6 * np.abs(array.astype(float)).max())


@generated(SQUARES, st.integers(0, 200), st.binary(max_size=8), SUFFIXES)
def test_damaged_files(array: np.ndarray, at: int, noise: bytes, suffix: str) -> None:
    """Bytes are overwritten or cut off anywhere: numbers, or a sentence; the shape is the one that is read."""
    from safetensors.numpy import save

    packed = io.BytesIO()
    np.savez_compressed(packed, J=array)
    text = io.StringIO()
    np.savetxt(text, array, delimiter=",")
    whole = {
        ".npy": npy(array),
        ".npz": packed.getvalue(),
        ".safetensors": save({"J": array}),
        ".csv": text.getvalue().encode(),
    }[suffix]
    content = whole[:at] + noise + whole[at + len(noise) :] if noise else whole[:at]
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / f"J{suffix}")
        Path(path).write_bytes(content)
        found = unless_refused(lambda: one_array("affinity.path", path), "affinity.path=")
        if found is None:
            return
        assert found.shape == shape_of("affinity.path", path)
        if content == whole:
            np.testing.assert_array_equal(found, array if suffix != ".csv" else np.atleast_2d(array))


@generated(st.lists(st.tuples(st.sampled_from(["J", "K", "../J", "a.npy", ""]), ANY), max_size=4))
def test_archives(members: list[tuple[str, np.ndarray]]) -> None:
    """Of several arrays the one with the key is read; an archive with two of one name is refused."""
    names = [name for name, _ in members]
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile's, about two of one name
        path = str(Path(folder) / "all.npz")
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, array in members:
                archive.writestr(f"{name}.npy", npy(array))
        for name, array in members:
            found = unless_refused(partial(one_array, "affinity.path", path, name), "affinity.path=")
            if found is not None:
                assert len(set(names)) == len(names)
                assert (found.dtype, found.shape) == (array.dtype, array.shape)
                assert found.tobytes() == array.tobytes()


@generated(st.lists(st.integers(-2, 2**70) | st.integers(0, 8), max_size=3), st.integers(0, 64))
def test_headers(shape: list[int], stored: int) -> None:
    """A .npy file is read if its header says how many numbers follow; memory for others is never asked for."""
    header = repr({"descr": "<f8", "fortran_order": False, "shape": tuple(shape)}).encode() + b"\n"
    content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(8 * stored)
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "J.npy")
        Path(path).write_bytes(content)
        found = unless_refused(lambda: one_array("affinity.path", path), "affinity.path=")
    if found is not None:
        assert found.shape == tuple(shape)
        assert found.size == stored
    else:
        assert min(shape, default=0) < 0 or math.prod(shape) != stored or 0 in shape  # numpy bounds empty shapes too


@generated(MADE, st.sampled_from(["spectral", "agglomerative", "leiden", "eigengap"]))
def test_groups(matrix: np.ndarray, name: str) -> None:
    """Units without any affinity are in no group, and named; all others are in one, or the cell is refused."""
    matrix = np.maximum(matrix, matrix.T)
    np.fill_diagonal(matrix, 0)
    affinity = Affinity(matrix, UnitSpace.heads([len(matrix)]))
    parameters = {"k": [2]} if name in ("spectral", "agglomerative") else {}
    method = registry().get("partitioner", name).build(parameters)
    partitions = unless_refused(lambda: method(affinity), f"partitioner {name}") or []
    isolated = np.flatnonzero(~matrix.any(axis=1))
    for partition in partitions:
        np.testing.assert_array_equal(np.flatnonzero(partition.labels < 0), isolated)
        assert partition.diagnostics["isolated"] == [f"L0H{unit}" for unit in isolated]
