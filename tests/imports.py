"""Every import of `harness` and `plugins`, including lazy ones and those for type checkers.

`python tests/imports.py` prints the packages by layer: a package is one layer above the highest it imports.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parent.parent
FOLDERS = {"harness": ROOT / "harness", "harness_plugins": ROOT / "plugins"}


def modules() -> dict[str, Path]:
    """Every module of the project, by its dotted name; a package is its ``__init__``."""
    found = {}
    for top, folder in FOLDERS.items():
        for file in sorted([*folder.rglob("*.py"), *folder.rglob("*.pyi")]):
            parts = [top, *file.relative_to(folder).with_suffix("").parts]
            found[".".join(part for part in parts if part != "__init__")] = file  # a stub says what its module lacks
    return found


def imports() -> Iterator[tuple[str, str]]:
    """Pairs of modules (importer, imported)."""
    files = modules()
    for module, file in files.items():
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            if isinstance(node, ast.ImportFrom):
                package = module.split(".") if file.stem == "__init__" else module.split(".")[:-1]
                above = package[: len(package) - node.level + 1] if node.level else []
                origin = ".".join([*above, *([node.module] if node.module else [])])
                names = [f"{origin}.{name}" if f"{origin}.{name}" in files else origin for name in names]
            yield from ((module, name) for name in dict.fromkeys(names) if name in files and name != module)


def room(module: str) -> str:
    """The package that holds a module: ``harness.closure``, ``harness_plugins.signals``; the door is ``harness``."""
    return ".".join(module.split(".")[:2])


def floors() -> dict[str, int]:
    """The layer of every package of the harness. Errors: CycleError if packages import each other in a cycle."""
    below: dict[str, set[str]] = {room(module): set() for module in modules() if module.startswith("harness.")}
    for importer, imported in imports():
        if room(importer) != room(imported) and room(importer) in below and room(imported) in below:
            below[room(importer)].add(room(imported))
    found: dict[str, int] = {}
    for package in TopologicalSorter(below).static_order():
        found[package] = 1 + max((found[other] for other in below[package]), default=0)
    return found


if __name__ == "__main__":
    by_package = floors()
    arrows = {(room(a), room(b)) for a, b in imports() if room(a) != room(b)}
    for package, floor in sorted(by_package.items(), key=lambda item: (-item[1], item[0])):
        print(f"floor {floor:>2}  {package}")
    print(f"{len(by_package)} packages, {max(by_package.values())} floors, {len(arrows)} arrows between packages")
