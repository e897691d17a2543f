"""Arrays of numbers in files: .npy, .npz, .safetensors and .csv. Sizes are checked before numbers are read.

Nothing in a file is run: pickled objects are refused, because loading them can run code.
"""

from __future__ import annotations

import math
import re
import warnings
import zipfile
from abc import abstractmethod
from collections.abc import Callable, Mapping
from functools import cache
from io import BufferedIOBase
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np

from harness.util.errors import HarnessError, unknown
from harness.util.memory import machine_memory
from harness.util.paths import expanded, is_file, why_no_file

T = TypeVar("T")
LARGEST_CSV = 2**30
"""Bytes of a .csv file: parsing takes many times as much."""
SHOWN = 12
"""Names of arrays in a message."""


def read_arrays(key: str, path: str) -> Mapping[str, np.ndarray]:
    """The arrays of a file by name; a .npy or .csv file contains one, named after the file. ``key``: for errors.

    Errors: no file; another type of file; a file that cannot be read, is incomplete, or contains objects instead of
    numbers; arrays that take more memory than the machine has.
    """

    def read(file: _File) -> dict[str, np.ndarray]:
        names = file.names()
        _check_memory(sum(map(file.size, names)))
        return {name: file.read(name) for name in names}

    return _explained(key, path, read)


def one_array(key: str, path: str, name: str = "") -> np.ndarray:
    """The array with this name, or the only one of a file. Other arrays are not read.

    Errors: as :func:`read_arrays`; several arrays, no name.
    """
    chosen = _chosen(key, path, name)

    def read(file: _File) -> np.ndarray:
        _check_memory(file.size(chosen))
        return file.read(chosen)

    return _explained(key, path, read)


def shape_of(key: str, path: str, name: str = "") -> tuple[int, ...]:
    """The shape of the array that :func:`one_array` reads, without reading its numbers. Errors: the same."""
    chosen = _chosen(key, path, name)
    return _explained(key, path, lambda file: file.shape(chosen))


def shapes_of(key: str, path: str) -> list[tuple[int, ...]]:
    """The shapes of all arrays of a file, without reading their numbers. Errors: as :func:`read_arrays`."""
    return _explained(key, path, lambda file: list(map(file.shape, file.names())))


def _chosen(key: str, path: str, name: str) -> str:
    names = _explained(key, path, lambda file: file.names())
    if name and name not in names:
        raise unknown(f"{key}={path}: array", name, names[:SHOWN])
    if not name and len(names) != 1:
        shown = ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
        raise HarnessError(
            f"{key}={path}: the file has {len(names)} arrays ({shown}).",
            f"Choose one: {key.split('.', maxsplit=1)[0]}.key={next(iter(names), 'A')}",
        )
    return name or names[0]


def _explained(key: str, path: str, read: Callable[[_File], T]) -> T:
    file = expanded(path)
    if not is_file(file):
        raise HarnessError(f"{key}={path}: {why_no_file(file)}.", f"Relative paths start at {Path.cwd()}")
    if file.suffix.lower() not in _FORMATS:
        raise HarnessError(
            f"{key}={path}: a {file.suffix or 'nameless'} file is not read.", f"Files that are: {', '.join(_FORMATS)}"
        )
    try:
        return read(_FORMATS[file.suffix.lower()](file))
    except _WrongSizeError as error:
        raise HarnessError(f"{key}={path}: {error}.", "Save the numbers again, or fewer of them.") from error
    except Exception as error:  # a damaged file can raise anything
        why = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise HarnessError(
            f"{key}={path}: it is not a {file.suffix} file of numbers ({why}).",
            "Save numbers, for example with np.save. Pickled objects are refused, because loading them can run code.",
        ) from error


class _WrongSizeError(Exception):
    """A file whose sizes are wrong: the message is the reason."""


def _check_memory(size: int) -> None:
    if size > machine_memory():
        raise _WrongSizeError(
            f"its arrays take {size / 2**30:.1f} GiB, and this machine has {machine_memory() / 2**30:.1f} GiB of memory"
        )


class _File:
    """The arrays of a file of one format. ``size``: bytes of an array in memory."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def names(self) -> list[str]:
        return [self.file.stem]

    def size(self, name: str) -> int:  # noqa: ARG002  # of formats with several arrays
        return self.file.stat().st_size

    @abstractmethod
    def shape(self, name: str) -> tuple[int, ...]: ...

    @abstractmethod
    def read(self, name: str) -> np.ndarray: ...


class _Npy(_File):
    def shape(self, name: str) -> tuple[int, ...]:
        with self.file.open("rb") as opened:
            return _shape_in_header(opened, self.size(name))

    def read(self, name: str) -> np.ndarray:
        self.shape(name)
        array: np.ndarray = np.load(self.file, allow_pickle=False)
        return array


class _Npz(_File):
    def names(self) -> list[str]:
        return list(self._members())

    def size(self, name: str) -> int:
        return self._members()[name].file_size  # reading stops there, whatever the archive holds

    def shape(self, name: str) -> tuple[int, ...]:
        with zipfile.ZipFile(self.file) as archive, archive.open(self._members()[name]) as opened:
            return _shape_in_header(opened, self.size(name))

    def read(self, name: str) -> np.ndarray:
        self.shape(name)
        with zipfile.ZipFile(self.file) as archive, archive.open(self._members()[name]) as opened:
            array: np.ndarray = np.lib.format.read_array(opened, allow_pickle=False)
            return array

    @cache  # noqa: B019  # one object per read
    def _members(self) -> dict[str, zipfile.ZipInfo]:
        """The arrays by name. Errors: two of one name, of which numpy would take the last."""
        members: dict[str, zipfile.ZipInfo] = {}
        with zipfile.ZipFile(self.file) as archive:
            for member in archive.infolist():
                name = member.filename.removesuffix(".npy")
                if name in members:
                    raise _WrongSizeError(f"two of its arrays are called '{name}'")
                members[name] = member
        return members


class _Safetensors(_File):
    """Its header is bounded and compared with the file by the library."""

    def names(self) -> list[str]:
        with self._opened() as opened:
            return list(opened.keys())

    def size(self, name: str) -> int:
        with self._opened() as opened:
            part = opened.get_slice(name)
            bits = re.search(r"\d+", part.get_dtype())  # F32, BF16, I64, F8_E4M3, BOOL
            shape: list[int] = part.get_shape()
            return math.prod(shape) * (int(bits[0]) // 8 if bits else 1)

    def shape(self, name: str) -> tuple[int, ...]:
        with self._opened() as opened:
            return tuple(opened.get_slice(name).get_shape())

    def read(self, name: str) -> np.ndarray:
        with self._opened() as opened:
            array: np.ndarray = opened.get_tensor(name)
            return array

    def _opened(self) -> Any:
        from safetensors import safe_open

        return safe_open(self.file, framework="np")


class _Csv(_File):
    def shape(self, name: str) -> tuple[int, ...]:
        return self.read(name).shape

    def read(self, name: str) -> np.ndarray:
        if self.size(name) > LARGEST_CSV:
            raise _WrongSizeError(
                f"it has {self.size(name) / 2**30:.1f} GiB, and a .csv file may have 1 GiB (save a .npy file)"
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about a file without numbers, which is refused below
            numbers: np.ndarray = np.loadtxt(self.file, delimiter=",", ndmin=2, encoding="utf-8-sig")
        if not numbers.size:
            raise _WrongSizeError("it has no numbers")
        return numbers


def _shape_in_header(opened: BufferedIOBase | IO[bytes], size: int) -> tuple[int, ...]:
    """The shape in a .npy header. Errors: objects; a shape that does not fill ``size``, the bytes of the whole file."""
    version = np.lib.format.read_magic(opened)
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in read:  # version 3 is for field names that are not Latin
        raise _WrongSizeError(f"its .npy version {version[0]}.{version[1]} is not one of plain numbers")
    shape, _, dtype = read[version](opened)
    if dtype.hasobject:
        raise ValueError("Object arrays cannot be loaded when allow_pickle=False")
    declared, stored = math.prod(shape) * dtype.itemsize, size - opened.tell()
    if min(shape, default=0) < 0 or declared != stored:
        raise _WrongSizeError(f"its header says {declared} bytes, of shape {shape}, and the file has {stored}")
    return tuple(shape)


_FORMATS: Mapping[str, type[_File]] = {".npy": _Npy, ".npz": _Npz, ".safetensors": _Safetensors, ".csv": _Csv}
