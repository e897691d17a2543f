"""Source code that comes with Python: the modules of the standard library, without docstrings and comments."""

from __future__ import annotations

import ast
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

from harness.util.digest import digest

_OF_THIS_MACHINE = "_sysconfigdata"  # modules that name the compiler and the paths of one machine
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def python_source(held_out: bool) -> Iterator[str]:
    """The standard library's modules outside packages, by name, one document each: about 3 million characters of code.

    Docstrings and comments are removed, because they are English; ``ast.unparse`` writes the rest. Either the modules
    that are held out (:func:`is_held_out` of their names) or the others. The text depends on the version of Python.
    Licence: Python Software Foundation.
    """
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        if not path.name.startswith(_OF_THIS_MACHINE) and is_held_out(path.stem) == held_out:
            yield from _code(path)


def is_held_out(name: str) -> bool:
    """One in sixteen names or texts, the same on every machine: models are trained on the others, and tested on it."""
    return digest(name)[0] == "0"


def _code(path: Path) -> Iterator[str]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in old modules
            tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return  # a file that Python itself could not import
    for node in ast.walk(tree):
        if isinstance(node, _DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    yield ast.unparse(tree)
