"""Affinities from a file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from harness import Affinity, AffinityMethod, HarnessError, Sign, UnitSpace, digest_files, hookimpl, signed_part
from harness.util.arrays import one_array, shape_of
from harness.util.paths import expanded, is_file


@dataclass(frozen=True)
class Precomputed(AffinityMethod):
    """A matrix that was computed elsewhere, read from a .npy, .npz, .safetensors or .csv file.

    Rows and columns are units, in the order of the subject. Numbers are converted to float64. Entries that differ from
    their mirror image by at most 1e-6 of the largest entry are averaged with it. A diagonal that is not zero (as in a
    correlation matrix) is set to zero, and ``diagnostics.diagonal`` reports it. ``transform`` converts the entries to
    an affinity: ``abs``, ``positive`` or ``signed``.

    Input: units. Output: affinity [n_units, n_units], in the unit of the file.

    Errors: no file; a file without a plain array of real numbers (pickled objects are refused, because loading them can
    run code), or with more numbers than memory; several arrays and no ``key``; an array that is not square, not finite,
    not symmetric, or that does not have one row per unit.
    Source: the file.
    """

    name: ClassVar[str] = "precomputed"
    path: str = field(
        default="", metadata={"help": "file with one row per unit: .npy, .npz, .safetensors, .csv", "by_content": True}
    )
    key: str = field(default="", metadata={"help": "name of the matrix in a file of several arrays"})
    transform: Sign = field(default="signed", metadata={"help": "part of the entries that is the affinity"})

    def __call__(self, units: UnitSpace) -> Affinity:
        matrix = self._checked(self._read(), units)
        notes = {"diagonal": "set to zero"} if np.diagonal(matrix).any() else {}
        np.fill_diagonal(matrix, 0.0)
        return Affinity(signed_part(matrix, self.transform), units, notes)

    def fingerprint(self) -> str:
        """Digest of the file's content. Empty: there is no file."""
        return digest_files(self._file) if is_file(self._file) else ""

    def check_files(self) -> None:
        """The file has the array."""
        if self.path:
            shape_of("affinity.path", self.path, self.key)

    @property
    def _file(self) -> Path:
        return expanded(self.path)

    def _refuse(self, why: str, fix: str) -> HarnessError:
        return HarnessError(f"affinity.path={self.path}: {why}", fix)

    def _read(self) -> np.ndarray:
        if not self.path:
            raise HarnessError(
                "affinity precomputed: no file is given.", "Give one with a row per unit: affinity.path=J.npy"
            )
        return one_array("affinity.path", self.path, self.key)

    def _checked(self, array: np.ndarray, units: UnitSpace) -> Float[np.ndarray, "units units"]:
        """In float64, and exactly symmetric."""
        n = len(units)
        if array.dtype.kind not in "biuf":
            raise self._refuse(
                f"the entries have dtype {array.dtype}; they must be real numbers.",
                "Save numbers: matrix.astype(float)",
            )
        if array.ndim != 2 or array.shape[0] != array.shape[1]:
            raise self._refuse(
                f"the array has the shape {array.shape}; it must be a square matrix.", "Save one row per unit."
            )
        if len(array) != n:
            raise self._refuse(
                f"the matrix has {len(array)} rows, and the subject has {n} units.",
                "Choose the subject of the matrix, or describe it: subject=precomputed subject.units=16x16 (layers x "
                "heads)",
            )
        matrix: Float[np.ndarray, "units units"] = array.astype(np.float64)
        bad = np.flatnonzero(~np.isfinite(matrix).all(axis=1))
        if len(bad):
            raise self._refuse(
                f"{len(bad)} rows contain NaN or infinity; the first is that of {units.labels[bad[0]]}.",
                "Set unknown entries to zero: np.nan_to_num(matrix, posinf=0, neginf=0)",
            )
        difference = np.abs(matrix - matrix.T)
        i, j = np.unravel_index(difference.argmax(), difference.shape)
        if difference[i, j] > 1e-6 * np.abs(matrix).max():
            raise self._refuse(
                f"the matrix is not symmetric: the two entries of {units.labels[i]} and {units.labels[j]} differ by "
                f"{difference[i, j]:.3g}, the largest difference.",
                "If you want the mean of both, save (matrix + matrix.T) / 2.",
            )
        matrix = (matrix + matrix.T) / 2
        return matrix


@hookimpl
def harness_affinities() -> list[type[Precomputed]]:
    return [Precomputed]
