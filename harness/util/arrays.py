"""Arrays of numbers in files: .npy, .npz, .safetensors and .csv. Nothing in a file is run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from harness.util.errors import HarnessError, unknown

SUFFIXES = (".npy", ".npz", ".safetensors", ".csv")


def read_arrays(key: str, path: str) -> Mapping[str, np.ndarray]:
    """The arrays of a file by name; a .npy or .csv file contains one, named after the file. ``key``: for errors.

    Errors: no file; another type of file; a file that cannot be read, or contains objects instead of numbers.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise HarnessError(f"{key}={path}: the file does not exist.", f"Relative paths start at {Path.cwd()}")
    if file.suffix not in SUFFIXES:
        raise HarnessError(
            f"{key}={path}: a {file.suffix or 'nameless'} file is not read.", f"Files that are: {', '.join(SUFFIXES)}"
        )
    try:
        return _read(file)
    except Exception as error:  # a damaged file can raise anything
        raise HarnessError(
            f"{key}={path}: it is not a {file.suffix} file of numbers ({str(error).splitlines()[0][:120]}).",
            "Save numbers, for example with np.save. Pickled objects are refused, because loading them can run code.",
        ) from error


def one_array(key: str, path: str, name: str = "") -> np.ndarray:
    """The array with this name, or the only one of a file. Errors: as :func:`read_arrays`; several arrays, no name."""
    arrays = read_arrays(key, path)
    if name and name not in arrays:
        raise unknown(f"{key}={path}: array", name, arrays)
    if not name and len(arrays) != 1:
        raise HarnessError(
            f"{key}={path}: the file has {len(arrays)} arrays ({', '.join(arrays)}).",
            f"Choose one: {key.split('.', maxsplit=1)[0]}.key={next(iter(arrays), 'A')}",
        )
    return arrays[name] if name else next(iter(arrays.values()))


def _read(file: Path) -> Mapping[str, np.ndarray]:
    if file.suffix == ".safetensors":
        from safetensors.numpy import load_file

        return load_file(file)
    if file.suffix == ".csv":
        return {file.stem: np.loadtxt(file, delimiter=",", ndmin=2)}
    with file.open("rb") as opened:  # numpy leaves a broken archive open
        loaded = np.load(opened, allow_pickle=False)
        return {file.stem: loaded} if isinstance(loaded, np.ndarray) else dict(loaded.items())
