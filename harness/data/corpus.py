"""Sources of text: the documentation that comes with Python, files, folders, datasets."""

from __future__ import annotations

import ast
import functools
import glob
import inspect
import platform
import sysconfig
import warnings
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from harness.util.digest import digest_files
from harness.util.errors import HarnessError
from harness.util.json_files import parse_json
from harness.util.paths import expanded, is_file, is_folder, why_no_file
from harness.util.text import decoded

PYTHON = "python-docs"
TEXT = (".txt", ".md")
DATA = {".parquet": "parquet", ".jsonl": "json", ".ndjson": "json", ".csv": "csv", ".tsv": "csv", ".arrow": "arrow"}
"""Endings of files of a dataset, each with the loader of the package datasets that reads it. So does ``.json``, where a
folder has no text beside it: many folders of text have a package.json."""
JSON = {".json": "json"}
PACKED = (".gz", ".zip", ".bz2", ".xz", ".zst", ".7z", ".tar", ".tgz", ".rar")
LARGEST = 2**30
"""Bytes of a text file."""

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


def syntax_tree(path: Path) -> ast.Module | None:
    """The syntax tree of a file. None: Python itself could not import it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in old modules
            return ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _docstrings_of_file(path: Path) -> Iterator[str]:
    tree = syntax_tree(path)
    if tree is None:
        return
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [node for node in ast.walk(tree) if isinstance(node, documented)]
    for node in sorted(nodes, key=lambda node: getattr(node, "lineno", 0)):
        docstring = ast.get_docstring(node, clean=False)
        if docstring is not None and len(text := inspect.cleandoc(docstring)) >= _SHORTEST_DOCSTRING:
            yield text


def documents(text: str, split: str) -> Iterator[str]:
    """Documents of a text: ``python-docs``, a text file, a folder, or a dataset (column ``text`` of its ``split``).

    Each file is a document; a form feed starts another one. A data file (.parquet, .jsonl, .json, .csv, .tsv, .arrow),
    or a folder of them without .txt files, is a downloaded dataset.

    Errors: those of :func:`check_text`; a dataset that cannot be read, or has no text in that column.
    """
    if text == PYTHON:
        yield from python_documentation()
        return
    source = _source(text)
    if source is None:
        yield from _dataset(text, split)
    elif source.data:
        yield from _dataset(text, split, source)
    else:
        for file in source.files:
            yield from _read(text, file).split("\f")


def check_text(text: str) -> None:
    """Read what is on disk, before a model is loaded for it. Names of datasets are not looked up.

    Errors: a path that does not exist, a folder without text, or with text and data; a link to nothing; a file that is
    empty, larger than 1 GiB, or not text: undecodable, with NUL bytes, packed, or JSON.
    """
    source = None if text == PYTHON else _source(text)
    if source is None or source.data:
        return
    lengths = [len(_read(text, file).strip()) for file in source.files]  # all of them, so that each is checked
    if not any(lengths):
        raise _refused(text, f"{'it is' if len(source.files) == 1 else 'all its files are'} empty")


def text_fingerprint(text: str) -> str:
    """Identity of a text: the version of Python, the contents of files, or the name of a dataset."""
    if text == PYTHON:
        return platform.python_version()
    try:
        source = _source(text)
        return digest_files(*source.files) if source else text
    except (HarnessError, OSError):
        return ""  # refused where it is read


@dataclass(frozen=True)
class _Source:
    """Files with text or, if ``data``, a dataset."""

    files: list[Path]
    data: bool


def _source(text: str) -> _Source | None:
    """The files of a text on disk. None: it names a dataset of the hub. Errors: see :func:`check_text`."""
    path = expanded(text)
    if not text:
        raise _refused(text, "no text is given")
    if is_file(path):
        return _Source([path], path.suffix.lower() in DATA | JSON)
    if is_folder(path):
        return _in_folder(text, path)
    endings = (*TEXT, *DATA, *JSON, *PACKED)
    if text.startswith((".", "/", "~")) or path.suffix.lower() in endings or path.is_symlink():
        raise _refused(text, why_no_file(path))
    return None


def _in_folder(text: str, folder: Path) -> _Source:
    """Its text files, or its data files: a downloaded dataset has data and a README.md. Hidden files are left out."""
    paths = sorted(
        path for path in folder.rglob("*") if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    for path in paths:
        if path.suffix.lower() in (*TEXT, *DATA) and not path.exists():
            raise _refused(text, f"{path.name}: {why_no_file(path)}")
    files = [path for path in paths if path.is_file()]
    texts = [file for file in files if file.suffix.lower() in TEXT]
    data = [file for file in files if file.suffix.lower() in DATA]
    plain = [file for file in texts if file.suffix.lower() == ".txt"]
    if data and plain:
        raise HarnessError(
            f"batch.text={text}: it has text ({plain[0].name}) and data ({data[0].name}).",
            f"Give a folder with one of them, or one file: batch.text={plain[0]}",
        )
    found = data or texts or [file for file in files if file.suffix.lower() in JSON]
    if not found:
        raise _refused(text, f"it has no file of type {', '.join((*TEXT, *DATA, *JSON))}")
    return _Source(found, data=bool(data) or not texts)


def _read(text: str, file: Path) -> str:
    """The text of a file. Errors: it is not text, or too large."""
    where = "" if file == expanded(text) else f"{file.name}: "
    if (size := file.stat().st_size) > LARGEST:
        raise _refused(text, f"{where}it has {size / 2**30:.1f} GiB; {LARGEST // 2**30} GiB are read")
    try:
        content = decoded(file.read_bytes())
    except OSError as error:
        raise _refused(text, f"{where}{error.strerror}") from error
    except ValueError as error:
        fix = "Unpack it first." if file.suffix.lower() in PACKED else ""
        raise _refused(text, f"{where}{error}", fix) from error
    if _is_json(content):
        raise _refused(text, f"{where}it is JSON", "Call it .jsonl or .json: its column `text` is then read.")
    return content


def _is_json(content: str) -> bool:
    """Whether a text begins with a JSON object in a line, or is one JSON value."""
    start = content.lstrip()
    if not start.startswith(("{", "[")):
        return False
    for part, kinds in ((start.split("\n", 1)[0], dict), (start, (dict, list))):  # "[1]" may begin a bibliography
        with suppress(ValueError):
            if isinstance(parse_json(part.encode("utf-8")), kinds):
                return True
    return False


def _refused(text: str, why: str, fix: str = "") -> HarnessError:
    return HarnessError(
        f"batch.text={text}: {why}.", fix or f"Give a text file in UTF-8, a folder of them, a dataset, or {PYTHON}."
    )


def _dataset(name: str, split: str, source: _Source | None = None) -> Iterator[str]:
    """The column ``text`` of a dataset: of files, or from the hub (``name@revision``)."""
    try:
        import datasets
    except ImportError as error:
        raise HarnessError(
            f"batch.text={name}: loading a dataset needs the package datasets.",
            'pip install "closure-harness[datasets]"',
        ) from error
    try:
        if source is None:
            hub, _, revision = name.partition("@")
            rows = datasets.load_dataset(hub, split=split, streaming=True, revision=revision or None)
        elif expanded(name).is_dir():
            rows = datasets.load_dataset(str(expanded(name)), split=split, streaming=True)
        else:
            (file,) = source.files
            suffix = file.suffix.lower()
            options = {"sep": "\t"} if suffix == ".tsv" else {}
            rows = datasets.load_dataset(
                (DATA | JSON)[suffix], data_files=glob.escape(str(file)), split="train", streaming=True, **options
            )
        for place, row in enumerate(rows):
            if not isinstance(row["text"], str):
                raise TypeError(f"the text of row {place} is {str(row['text'])[:40]!r}")  # noqa: TRY301  # as the library's
            yield row["text"]
    except Exception as error:  # damaged files and failed connections can raise anything
        why = (str(error).splitlines() or [""])[0][:200] or type(error).__name__
        raise HarnessError(
            f"batch.text={name}: the dataset cannot be read ({why}).",
            "Check the name and the column `text`, or download the dataset and give its folder.",
        ) from error
