"""What makes two results the same result: the code that makes them, its parameters, and the content of its inputs."""

from __future__ import annotations

import ast
import dataclasses
import importlib.util
import inspect
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from harness.util.digest import digest, digest_files

REGISTRATION = "harness.registry.hookspecs"  # every plugin imports it, and it computes nothing


@runtime_checkable
class Digested(Protocol):
    """A value that knows the digest of its own content: a batch, the units of a subject."""

    @property
    def digest(self) -> str:
        """Equal digests mean equal content."""


def content(*values: Any) -> str:
    """Digest of what stages hand each other: arrays, sparse arrays, dataclasses, and whatever JSON can hold.

    Errors: TypeError for anything else, which could look the same and be something else.
    """
    return digest(*(part for value in values for part in _parts(value)))


def identity(method: Any) -> list[Any]:
    """What makes two methods the same: code, parameters that are not neutral, content instead of the names of files."""
    fields = dataclasses.fields(method) if dataclasses.is_dataclass(method) else ()
    told = {f.name: getattr(method, f.name) for f in fields if not {"neutral", "by_content"} & {*f.metadata}}
    return [type(method).__qualname__, code_of(type(method)), content(told), str(method.fingerprint())]


def code_of(thing: type | str) -> str:
    """Digest of the file of a class (or a module), and of those it imports, directly or not: the harness's, and others
    of its own package. Found in the text, so that imports inside functions count as well.
    """
    module, file = (thing, _file_of(thing)) if isinstance(thing, str) else (thing.__module__, inspect.getfile(thing))
    found: dict[str, str] = {}
    waiting = [(module, Path(file or ""))]
    while waiting:
        module, file = waiting.pop()
        if module not in found:
            found[module], imported = _read(module, file)
            waiting += imported
    return digest(sorted(found.values()))


@cache  # once per process: what runs here is what was there when it started, whatever is edited since
def _read(module: str, file: Path) -> tuple[str, list[tuple[str, Path]]]:
    """Digest of a file, and the modules it imports."""
    ours = ("harness", module.partition(".")[0])
    names = [name for name in _imports(module, file) if name.partition(".")[0] in ours and name != REGISTRATION]
    return digest_files(file), [(name, found) for name in dict.fromkeys(names) if (found := _file_of(name))]


def _imports(module: str, file: Path) -> Iterator[str]:
    """The names that a file imports: of modules, and what may be one inside a package.

    A name that a package only hands on is followed to where it lives, and the package's other names are not.
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
    """The module that an import takes names from, its dots resolved."""
    package = module.split(".") if file.stem == "__init__" else module.split(".")[:-1]
    above = package[: len(package) - node.level + 1] if node.level else []
    return ".".join([*above, *([node.module] if node.module else [])])


@cache
def reexports(package: str) -> Mapping[str, str]:
    """The names that a package's ``__init__`` imports (or its stub, where names are loaded lazily), and from where."""
    file = _file_of(package)
    if file is None or file.stem != "__init__":
        return {}
    stub = file.with_suffix(".pyi")
    file = stub if stub.is_file() else file
    imports = [node for node in ast.walk(ast.parse(file.read_bytes())) if isinstance(node, ast.ImportFrom)]
    return {alias.asname or alias.name: _origin(package, file, node) for node in imports for alias in node.names}


@cache
def _file_of(module: str) -> Path | None:
    """Where a module lies, found without importing it; None for a name that is not a module's."""
    top, *rest = module.split(".")
    package = importlib.util.find_spec(top)
    for root in (package.submodule_search_locations or ()) if package else ():
        place = Path(root).joinpath(*rest)
        for file in (place.with_suffix(".py"), place / "__init__.py"):
            if file.is_file():
                return file
    return None


def _parts(value: Any) -> Iterator[Any]:
    """What a digest is taken over, each part with what says where it belongs."""
    if isinstance(value, Digested):
        yield value.digest
    elif isinstance(value, np.ndarray) and not value.dtype.hasobject:
        yield value
    elif hasattr(value, "indptr"):  # a sparse array of scipy's, by rows
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
        raise TypeError(f"{type(value).__name__} has no content that can be told from another's")
