"""The dependencies of a result: the code that computes it, its parameters, and the content of its inputs."""

from __future__ import annotations

import ast
import dataclasses
import importlib.util
import inspect
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from types import CodeType
from typing import Any, Protocol, runtime_checkable

import numpy as np

from harness.util.digest import digest, digest_files

REGISTRATION = "harness.registry.hookspecs"  # every plugin imports it; it computes nothing


@runtime_checkable
class Digested(Protocol):
    """A value with a digest of its own content: a batch, the units of a subject."""

    @property
    def digest(self) -> str:
        """Equal digests mean equal content."""


def content(*values: Any) -> str:
    """Digest of values that stages exchange: arrays, sparse arrays, dataclasses, and values that JSON can hold.

    Errors: TypeError for any other value, whose content cannot be read.
    """
    return digest(*(part for value in values for part in _parts(value)))


def identity(method: Any) -> list[Any]:
    """The dependencies of a method's results: code, parameters that are not neutral, the content of its files."""
    fields = dataclasses.fields(method) if dataclasses.is_dataclass(method) else ()
    parameters = {f.name: getattr(method, f.name) for f in fields if not {"neutral", "by_content"} & {*f.metadata}}
    return [type(method).__qualname__, code_of(type(method)), content(parameters), str(method.fingerprint())]


def code_of(thing: type | str) -> str:
    """Digest of the file of a class or module, and of all files of the harness or of its own package that it imports,
    directly or indirectly. Imports are found in the text, so that imports inside functions count as well.

    A class without a file, typed into a notebook, is digested by its compiled methods and the code of its bases.
    """
    if isinstance(thing, type) and _without_file(thing):
        return digest(*_compiled(thing))
    module, file = (thing, _file_of(thing)) if isinstance(thing, str) else (thing.__module__, inspect.getfile(thing))
    found: dict[str, str] = {}
    waiting = [(module, Path(file or ""))]
    while waiting:
        module, file = waiting.pop()
        if module not in found:
            found[module], imported = _read(module, file)
            waiting += imported
    return digest(sorted(found.values()))


def _without_file(cls: type) -> bool:
    """Whether a class was typed into this session. ``__main__`` may name another file, that of the program."""
    main = sys.modules["__main__"]
    return cls.__module__ == "__main__" and not (hasattr(main, "__file__") and getattr(main, cls.__name__, None) is cls)


def _compiled(cls: type) -> Iterator[Any]:
    """Names, plain values and compiled methods of a class without a file; then the code of its bases."""
    for name, member in sorted(vars(cls).items()):
        function = getattr(member, "fget", None) or getattr(member, "__func__", member)
        yield name
        if hasattr(function, "__code__"):
            yield from _instructions(function.__code__)
        elif isinstance(member, str | int | float | None) and not name.startswith("__"):
            yield member
    yield from (code_of(base) for base in cls.__bases__ if base.__module__ not in ("builtins", "typing"))


def _instructions(code: CodeType) -> Iterator[Any]:
    """Bytecode, names and constants, without the file and the lines, which differ between sessions."""
    yield from (code.co_code.hex(), code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _instructions(constant)
        else:
            yield repr(constant)


@cache  # once per process: a file that is edited later does not change the code that runs here
def _read(module: str, file: Path) -> tuple[str, list[tuple[str, Path]]]:
    """Digest of a file, and the modules it imports."""
    followed = ("harness", module.partition(".")[0])
    names = [name for name in _imports(module, file) if name.partition(".")[0] in followed and name != REGISTRATION]
    return digest_files(file), [(name, found) for name in dict.fromkeys(names) if (found := _file_of(name))]


def _imports(module: str, file: Path) -> Iterator[str]:
    """The names that a file imports: modules, and names that may be modules of a package.

    If a package only re-exports a name, the module that defines the name is given, and the package's other names do not
    count.
    """
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = _origin(module, file, node)
            for alias in node.names:
                if home := reexports(origin).get(alias.name):
                    yield home
                else:
                    yield from (origin, f"{origin}.{alias.name}")


def _origin(module: str, file: Path, node: ast.ImportFrom) -> str:
    """The module that an import takes names from, with relative dots resolved."""
    package = module.split(".") if file.stem == "__init__" else module.split(".")[:-1]
    above = package[: len(package) - node.level + 1] if node.level else []
    return ".".join([*above, *([node.module] if node.module else [])])


@cache
def reexports(package: str) -> Mapping[str, str]:
    """The names that a package's ``__init__`` imports (or its stub, if they are loaded lazily), with their modules."""
    file = _file_of(package)
    if file is None or file.stem != "__init__":
        return {}
    stub = file.with_suffix(".pyi")
    file = stub if stub.is_file() else file
    imports = [node for node in ast.walk(ast.parse(file.read_bytes())) if isinstance(node, ast.ImportFrom)]
    return {alias.asname or alias.name: _origin(package, file, node) for node in imports for alias in node.names}


@cache
def _file_of(module: str) -> Path | None:
    """The file of a module, found without importing it. None: there is no module of this name."""
    top, *rest = module.split(".")
    package = importlib.util.find_spec(top)
    for root in (package.submodule_search_locations or ()) if package else ():
        path = Path(root).joinpath(*rest)
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            if file.is_file():
                return file
    return None


def _parts(value: Any) -> Iterator[Any]:
    """The parts of a value that enter its digest, with sizes and keys between them."""
    if isinstance(value, Digested):
        yield value.digest
    elif isinstance(value, np.ndarray) and not value.dtype.hasobject:
        yield value
    elif hasattr(value, "indptr"):  # a sparse array of scipy, by rows
        yield from (list(value.shape), value.data, value.indices, value.indptr)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield type(value).__name__
        yield from _parts({f.name: getattr(value, f.name) for f in dataclasses.fields(value)})
    elif isinstance(value, Mapping):
        yield sorted(map(str, value))
        for key in sorted(value, key=str):
            yield from _parts(value[key])
    elif isinstance(value, list | tuple):
        yield len(value)
        for part in value:
            yield from _parts(part)
    elif isinstance(value, np.generic):
        yield value.item()
    elif value is None or isinstance(value, str | int | float | Path):
        yield str(value) if isinstance(value, Path) else value
    else:
        raise TypeError(f"{type(value).__name__} cannot be digested: its content cannot be read")
