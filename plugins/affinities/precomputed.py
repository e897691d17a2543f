"""Affinities out of a file."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from harness import Affinity, HarnessError, Sign, UnitSpace, digest_files, hookimpl, signed_part
from harness.util.errors import unknown


@dataclass(frozen=True)
class Precomputed:
    """A matrix of any origin, read from a .npy or .npz file.

    Rows and columns are units, in the order of the subject's. Numbers of any width become float64; what differs from
    its mirror image by no more than 1e-6 of the largest entry is averaged with it. A diagonal that is not zero (a
    matrix of correlations has ones there) is set to zero, which ``diagnostics.diagonal`` says. ``transform`` says what
    of the entries is affinity: ``abs``, ``positive`` or ``signed``.

    Input: units. Output: affinity [n_units, n_units], in the file's own unit.

    Errors: no file, a file that holds no plain array of real numbers (pickled objects are refused: loading them can
    run code), several arrays and no ``key``; an array that is not square, not of the subject's size, not finite or not
    symmetric.
    Source: the file.
    """

    name: ClassVar[str] = "precomputed"
    path: str = field(default="", metadata={"help": ".npy or .npz file with one row per unit", "by_content": True})
    key: str = field(default="", metadata={"help": "which array of an .npz file; one that is alone needs no key"})
    transform: Sign = field(default="signed", metadata={"help": "what of the entries is affinity"})

    def __call__(self, units: UnitSpace) -> Affinity:
        matrix = self._checked(self._read(), units)
        notes = {"diagonal": "set to zero"} if np.diagonal(matrix).any() else {}
        np.fill_diagonal(matrix, 0.0)
        return Affinity(signed_part(matrix, self.transform), units, notes)

    def fingerprint(self) -> str:
        """The file's content; "" where there is none."""
        return digest_files(self._file) if self._file.is_file() else ""

    @property
    def _file(self) -> Path:
        return Path(self.path).expanduser()

    def _refuse(self, why: str, fix: str) -> HarnessError:
        return HarnessError(f"affinity.path={self.path}: {why}", fix)

    def _read(self) -> np.ndarray:
        if not self.path:
            raise HarnessError(
                "affinity precomputed: no file is named.", "Name one with a row per unit: affinity.path=J.npy"
            )
        if not self._file.is_file():
            raise self._refuse("there is no such file.", f"Relative paths start at {Path.cwd()}")
        if self._file.suffix not in (".npy", ".npz"):
            raise self._refuse("this is no .npy or .npz file.", "Save the matrix with np.save('J.npy', matrix).")
        try:
            with self._file.open("rb") as file:  # numpy leaves a broken archive open
                loaded = np.load(file, allow_pickle=False)
                array: np.ndarray = loaded if isinstance(loaded, np.ndarray) else loaded[self._key(loaded.files)]
                return array
        except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise self._refuse(
                f"no plain array of numbers can be read from it ({error}).",
                "Save numbers: np.save('J.npy', matrix.astype(float)). Pickled objects are refused: loading them can "
                "run code.",
            ) from error

    def _key(self, keys: list[str]) -> str:
        if self.key and self.key not in keys:
            raise unknown(f"affinity.path={self.path}: array", self.key, keys)
        if not self.key and len(keys) != 1:
            raise self._refuse(
                f"it holds {len(keys)} arrays ({', '.join(keys)}).", f"Say which: affinity.key={next(iter(keys), 'J')}"
            )
        return self.key or keys[0]

    def _checked(self, found: np.ndarray, units: UnitSpace) -> Float[np.ndarray, "units units"]:
        """In float64, and exactly symmetric."""
        n = len(units)
        if found.dtype.kind not in "biuf":
            raise self._refuse(
                f"its entries are {found.dtype}, not real numbers.", "Save numbers: matrix.astype(float)"
            )
        if found.ndim != 2 or found.shape[0] != found.shape[1]:
            raise self._refuse(f"an array of shape {found.shape} is no square matrix.", "Save one row per unit.")
        if len(found) != n:
            raise self._refuse(
                f"it has {len(found)} rows, and the subject has {n} units.",
                "Take the subject it is of, or describe that: subject=precomputed subject.units=16x16 (layers x heads)",
            )
        matrix: Float[np.ndarray, "units units"] = found.astype(np.float64)
        bad = np.flatnonzero(~np.isfinite(matrix).all(axis=1))
        if len(bad):
            raise self._refuse(
                f"{len(bad)} rows hold NaN or infinity, the first is that of {units.labels[bad[0]]}.",
                "Set to zero what is not known: np.nan_to_num(matrix, posinf=0, neginf=0)",
            )
        apart = np.abs(matrix - matrix.T)
        i, j = np.unravel_index(apart.argmax(), apart.shape)
        if apart[i, j] > 1e-6 * np.abs(matrix).max():
            raise self._refuse(
                f"it is not symmetric: the two entries of {units.labels[i]} and {units.labels[j]} differ by "
                f"{apart[i, j]:.3g}, more than any other.",
                "If their mean is what you mean, save (matrix + matrix.T) / 2.",
            )
        matrix = (matrix + matrix.T) / 2
        return matrix


@hookimpl
def harness_affinities() -> list[type[Precomputed]]:
    return [Precomputed]
