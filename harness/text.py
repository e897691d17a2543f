"""Knows which English text every machine with Python has: the documentation that Python carries."""

from __future__ import annotations

import ast
import functools
import inspect
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

_SHORTEST_DOCSTRING = 81
_NOT_DOCUMENTATION = frozenset({"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"})


@functools.cache
def python_documentation() -> tuple[str, ...]:
    """The language reference and the standard library's docstrings, about 2 million characters of English.

    First every topic of ``pydoc_data.topics`` (what ``help("if")`` prints) by name, then every docstring of more than
    80 characters by path and line. The order is fixed and no document comes twice; the text is that of the running
    Python, so a digest of it belongs in whatever is made from it. Licence: Python Software Foundation.
    """
    return tuple(dict.fromkeys((*_topics(), *_docstrings(Path(sysconfig.get_path("stdlib"))))))


def _topics() -> Iterator[str]:
    try:
        from pydoc_data.topics import topics
    except ImportError:  # some Linux distributions put it in a package of its own
        return
    yield from (topics[name].strip() for name in sorted(topics))


def _docstrings(library: Path) -> Iterator[str]:
    for path in sorted(library.rglob("*.py"), key=lambda path: path.relative_to(library).parts):
        if _NOT_DOCUMENTATION.isdisjoint(path.relative_to(library).parts):
            yield from _docstrings_of_file(path)


def _docstrings_of_file(path: Path) -> Iterator[str]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in old modules are not our user's business
            tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return  # a file that Python itself could not import has nothing to say here
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [node for node in ast.walk(tree) if isinstance(node, documented)]
    for node in sorted(nodes, key=lambda node: getattr(node, "lineno", 0)):
        docstring = ast.get_docstring(node, clean=False)
        if docstring is not None and len(text := inspect.cleandoc(docstring)) >= _SHORTEST_DOCSTRING:
            yield text
