"""What every command needs: loaded plugins, resolved overrides, the workspace."""

from __future__ import annotations

import json
import os
import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from harness.cells.cell import Cell
from harness.cells.progress import Progress
from harness.cells.settings import Settings
from harness.cli.words import EXAMPLES, as_read, key_of
from harness.records.record import Record
from harness.records.workspace import Workspace
from harness.registry import plugins
from harness.registry.config import DIR_VARIABLE, NAME_VARIABLE, expand, registry, resolve, resolve_all
from harness.registry.plugins import Plugins
from harness.registry.registry import Registry
from harness.util.errors import HarnessError
from harness.util.paths import expanded
from harness.util.text import printable
from harness.util.validation import validated
from harness.util.waiting import said_if_slow


@dataclass(frozen=True)
class Session:
    """One call of the command line: ``overrides`` of the configuration, and ``own`` words such as ``out=DIR``."""

    plugins: Plugins
    registry: Registry
    overrides: tuple[str, ...]
    own: tuple[str, ...]
    json: bool

    @classmethod
    def open(cls, arguments: Namespace) -> Session:
        """Load plugins, and name the user's configuration files. The processes that a sweep starts do so as well."""
        if folder := getattr(arguments, "config_dir", None):
            where = expanded(folder).resolve()
            if not where.is_dir():
                raise HarnessError(f"--config-dir: {where} is not a folder.", "Name a folder with YAML files.")
            os.environ[DIR_VARIABLE] = str(where)
        if name := getattr(arguments, "config_name", None):
            os.environ[NAME_VARIABLE] = name.removesuffix(".yaml")
        extra = tuple(str(expanded(name).resolve()) if name.endswith(".py") else name for name in arguments.plugin)
        if with_comma := next((name for name in extra if "," in name), None):
            raise HarnessError(f"--plugin: {with_comma} has a comma in its path.", "Move it, or rename its folder.")
        every = [*plugins.names(os.environ.get(plugins.EXTRA_VARIABLE)), *extra]
        os.environ[plugins.EXTRA_VARIABLE] = ",".join(dict.fromkeys(every))
        with said_if_slow("loading plugins"):
            methods, loaded = registry(), plugins.load()
        overrides, own = (tuple(as_read(word, methods) for word in of) for of in (arguments.overrides, arguments.own))
        session = cls(loaded, methods, overrides, own, arguments.json)
        for broken in session.registry.problems:
            if broken.origin in extra:  # the user named it, so its failure ends the command
                raise HarnessError(f"plugin {broken.name} cannot be used: {broken.reason}")
        return session

    @cached_property
    def _values(self) -> dict[str, Any]:
        """The values of keys that commands without a configuration take, as a cell would have them."""
        plain = [word for word in self.overrides if key_of(word) in EXAMPLES]
        return resolve([*plain, *(f"++{word.lstrip('+')}" for word in self.own)], self.registry)

    @property
    def settings(self) -> Settings:
        """The settings that commands without a configuration take: ``workspace``, ``tracking``, ``cache_limit``."""
        return validated(Settings, {key: self._values[key] for key in EXAMPLES if key in self._values})

    @property
    def workspace(self) -> Workspace:
        """The workspace that the overrides name, by default ``runs`` in the current folder."""
        return Workspace.at(self.settings.workspace)

    def named(self, key: str) -> str | None:
        """The value of an own word; None where there is no such word."""
        return str(self._values[key]) if any(key_of(word) == key for word in self.own) else None

    @property
    def out(self) -> Path | None:
        """The folder or file that ``out=`` names; None without this word. Errors: no name."""
        where = self.named("out")
        if where == "":
            raise HarnessError("out= names no folder.", "Example: out=results")
        return None if where is None else expanded(where).absolute()

    def workspace_of(self, cells: Sequence[Cell]) -> Workspace:
        """The workspace of a sweep. Errors: a sweep without cells, or with several workspaces."""
        places = {cell.settings.workspace for cell in cells}
        if len(places) != 1:
            raise HarnessError("a sweep needs at least one cell, and one workspace for all its cells.")
        return Workspace.at(places.pop())

    def readable(self, workspace: Workspace | None = None) -> list[Record]:
        """The records of the (or a) workspace that can be read; the others are named and left out."""
        records, problems = (workspace or self.workspace).records()
        if problems:
            self.note("\n".join([*problems, f"left out: {len(problems)} of {len(records) + len(problems)} records"]))
        return records

    def records(self) -> list[Record]:
        """The same. Errors: there are none."""
        if not (records := self.readable()):
            raise HarnessError(
                f"workspace {self.workspace.root} holds no records.", "Run cells first: harness run, harness sweep"
            )
        return records

    def cell(self, *more: str) -> Cell:
        """The cell that these overrides describe."""
        return Cell.of(resolve([*self.overrides, *more], self.registry), self.registry)

    def cells(self, *more: str) -> list[Cell]:
        """Every cell of the sweep that these overrides describe, once. Values that make the same cell are reported."""
        with said_if_slow("building every cell"):
            grid = expand([*self.overrides, *more], self.registry)
            described = [Cell.of(config, self.registry) for config in resolve_all(grid, self.registry)]
        cells = {cell.id: cell for cell in described}
        if repeated := len(described) - len(cells):
            self.note(f"{len(described)} combinations describe {len(cells)} different cells: {repeated} are repeated.")
        return list(cells.values())

    def progress(self) -> Progress:
        """A new progress display, which also measures times."""
        return Progress()

    def print(self, text: str, data: Any) -> None:
        """Print the answer on stdout: text, or data as JSON."""
        print(json.dumps(data, indent=1, ensure_ascii=False, default=str) if self.json else printable(text, keep="\n"))

    def note(self, text: str) -> None:
        """Print a remark on stderr."""
        print(printable(text, keep="\n"), file=sys.stderr, flush=True)


def units_of(names: Sequence[str]) -> list[str]:
    """The units that words name: ``L0H0,L0H7 L1H2`` are three."""
    return [unit.strip() for name in names for unit in name.split(",") if unit.strip()]


def lines(rows: Sequence[Sequence[str]], indent: str = "  ") -> str:
    """Rows of text with aligned columns."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))] if rows else []
    return "\n".join(
        indent + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
