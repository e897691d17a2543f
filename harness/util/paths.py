"""Paths that users give: which are files, and why others are not. No path raises an error of the system here."""

from __future__ import annotations

from pathlib import Path


def expanded(path: str) -> Path:
    """The path, with ``~`` as the home folder. An unknown user's ``~name`` stays as it is."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def is_file(path: Path) -> bool:
    """Whether it is a file. A name that the system cannot have names none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def is_folder(path: Path) -> bool:
    """Whether it is a folder."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def why_no_file(path: Path) -> str:
    """Why a path is not a file: it does not exist, is a folder, a link to nothing, or something else."""
    try:
        if path.is_symlink() and not path.exists():
            return f"it is a link to {path.readlink()}, which does not exist"
        if path.is_dir():
            return "it is a folder"
        return "it is neither a file nor a folder" if path.exists() else "the file does not exist"
    except (OSError, ValueError) as error:  # a name that is too long, or has a NUL character
        return f"the file does not exist ({getattr(error, 'strerror', None) or error})"
