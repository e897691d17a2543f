"""Sources of text: the documentation that comes with Python, files, folders, datasets."""

from __future__ import annotations

import ast
import functools
import inspect
import platform
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

from harness.util.digest import digest_files
from harness.util.errors import HarnessError

PYTHON = "python-docs"
TEXT = (".txt", ".md")
DATA = (".parquet", ".jsonl", ".json", ".csv", ".arrow")

_SHORTEST_DOCSTRING = 81
_NOT_DOCUMENTATION = frozenset({"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"})


@functools.cache
def python_documentation() -> tuple[str, ...]:
    """The language reference and the standard library's docstrings, about 2 million characters of English.

    First every topic of ``pydoc_data.topics`` (what ``help("if")`` prints) by name, then every docstring of more than
    80 characters by path and line. The order is fixed and every document occurs once. The text depends on the version
    of Python: results computed from it should store its digest. Licence: Python Software Foundation.
    """
    return tuple(dict.fromkeys((*python_topics(), *_docstrings(Path(sysconfig.get_path("stdlib"))))))


def python_topics() -> Iterator[str]:
    """The topics of the language reference, by name: a part of :func:`python_documentation` that is read at once."""
    try:
        from pydoc_data.topics import topics
    except ImportError:  # some Linux distributions have it in a separate package
        return
    yield from (topics[name].strip() for name in sorted(topics))


def _docstrings(library: Path) -> Iterator[str]:
    for path in sorted(library.rglob("*.py"), key=lambda path: path.relative_to(library).parts):
        if _NOT_DOCUMENTATION.isdisjoint(path.relative_to(library).parts):
            yield from _docstrings_of_file(path)


def _docstrings_of_file(path: Path) -> Iterator[str]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in old modules
            tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return  # a file that Python itself could not import
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [node for node in ast.walk(tree) if isinstance(node, documented)]
    for node in sorted(nodes, key=lambda node: getattr(node, "lineno", 0)):
        docstring = ast.get_docstring(node, clean=False)
        if docstring is not None and len(text := inspect.cleandoc(docstring)) >= _SHORTEST_DOCSTRING:
            yield text


def documents(text: str, split: str) -> Iterator[str]:
    """Documents of a text: ``python-docs``, a text file, a folder, or a dataset (column ``text`` of its ``split``).

    Each file is a document; a form feed starts another one. A folder that contains data files is a downloaded dataset.

    Errors: a missing file, a folder without text, a dataset that cannot be read or has no such column.
    """
    if text == PYTHON:
        yield from python_documentation()
        return
    path = Path(text).expanduser()
    if path.is_dir() and _files(path, DATA):  # before text: a downloaded dataset has a README.md
        yield from _dataset(str(path), split)
    elif files := _files(path, TEXT):
        for file in files:
            yield from file.read_text(encoding="utf-8", errors="replace").split("\f")
    elif path.is_dir() or text.startswith((".", "/", "~")) or path.suffix in TEXT:
        why = f"has no file of type {', '.join(TEXT + DATA)}" if path.is_dir() else "does not exist"
        raise HarnessError(f"batch.text={text}: {why}.", f"Give a text file, a folder of them, or {PYTHON}.")
    else:
        yield from _dataset(text, split)


def text_fingerprint(text: str) -> str:
    """Identity of a text: the version of Python, the contents of files, or the name of a dataset."""
    if text == PYTHON:
        return platform.python_version()
    path = Path(text).expanduser()
    files = _files(path, DATA) or _files(path, TEXT)
    return digest_files(*files) if files else text


def _files(path: Path, endings: tuple[str, ...]) -> list[Path]:
    """The file itself, whatever its ending, or the files of a folder with one of these endings."""
    if path.is_file():
        return [path]
    return sorted(file for file in path.rglob("*") if file.suffix in endings) if path.is_dir() else []


def _dataset(name: str, split: str) -> Iterator[str]:
    try:
        import datasets
    except ImportError as error:
        raise HarnessError(
            f"batch.text={name} is neither a file nor a folder, and loading a dataset needs the package datasets.",
            'pip install "closure-harness[datasets]"',
        ) from error
    name, _, revision = name.partition("@")
    try:
        rows = datasets.load_dataset(name, split=split, streaming=True, revision=revision or None)
        for row in rows:
            yield row["text"]
    except (OSError, ValueError, KeyError) as error:
        raise HarnessError(
            f"batch.text={name} is neither a file nor a folder, and the dataset cannot be read: {error}.",
            "Check the name and the column `text`, or download the dataset and give its folder.",
        ) from error
