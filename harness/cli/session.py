"""What every command needs: loaded plugins, resolved overrides, the workspace."""

from __future__ import annotations

import json
import os
import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.cells.cell import Cell
from harness.cells.progress import Progress
from harness.records.workspace import Workspace
from harness.registry import plugins
from harness.registry.config import DIR_VARIABLE, NAME_VARIABLE, expand, registry, resolve, resolve_all
from harness.registry.plugins import Plugins
from harness.registry.registry import Registry
from harness.util.errors import HarnessError
from harness.util.waiting import said_if_slow


@dataclass(frozen=True)
class Session:
    """One call of the command line."""

    plugins: Plugins
    registry: Registry
    overrides: tuple[str, ...]
    json: bool

    @classmethod
    def open(cls, arguments: Namespace) -> Session:
        """Load plugins, and name the user's configuration files. The processes that a sweep starts do so as well."""
        if folder := getattr(arguments, "config_dir", None):
            if not Path(folder).is_dir():
                where = Path(folder).resolve()
                raise HarnessError(f"--config-dir: {where} is not a folder.", "Name a folder with YAML files.")
            os.environ[DIR_VARIABLE] = str(Path(folder).resolve())
        if name := getattr(arguments, "config_name", None):
            os.environ[NAME_VARIABLE] = name.removesuffix(".yaml")
        extra = tuple(str(Path(name).resolve()) if name.endswith(".py") else name for name in arguments.plugin)
        every = [*plugins.names(os.environ.get(plugins.EXTRA_VARIABLE)), *extra]
        os.environ[plugins.EXTRA_VARIABLE] = ",".join(dict.fromkeys(every))
        with said_if_slow("loading plugins"):
            session = cls(plugins.load(), registry(), tuple(arguments.overrides), arguments.json)
        for broken in session.registry.problems:
            if broken.origin in extra:  # the user named it, so its failure ends the command
                raise HarnessError(f"plugin {broken.name} cannot be used: {broken.reason}")
        return session

    @property
    def workspace(self) -> Workspace:
        """The workspace that the overrides name, by default ``runs`` in the current folder."""
        named = [word.partition("=")[2] for word in self.overrides if word.partition("=")[0] == "workspace"]
        return Workspace.at(named[-1] if named else "runs")

    def workspace_of(self, cells: Sequence[Cell]) -> Workspace:
        """The workspace of a sweep. Errors: a sweep without cells, or with several workspaces."""
        places = {cell.settings.workspace for cell in cells}
        if len(places) != 1:
            raise HarnessError("a sweep needs at least one cell, and one workspace for all its cells.")
        return Workspace.at(places.pop())

    def cell(self, *more: str) -> Cell:
        """The cell that these overrides describe."""
        return Cell.of(resolve([*self.overrides, *more], self.registry), self.registry)

    def cells(self) -> list[Cell]:
        """Every cell of the sweep that these overrides describe."""
        with said_if_slow("building every cell"):
            grid = expand(self.overrides, self.registry)
            return [Cell.of(config, self.registry) for config in resolve_all(grid, self.registry)]

    def progress(self) -> Progress:
        """A new progress display, which also measures times."""
        return Progress()

    def accept_only_workspace(self) -> None:
        """Errors: an override other than ``workspace=``, which would have no effect."""
        for word in self.overrides:
            if not word.startswith("workspace="):
                raise HarnessError(f"'{word}' has no effect here.", "This command takes workspace=DIR only.")

    def print(self, text: str, data: Any) -> None:
        """Print the answer on stdout: text, or data as JSON."""
        print(json.dumps(data, indent=1, ensure_ascii=False, default=str) if self.json else text)

    def note(self, text: str) -> None:
        """Print a remark on stderr."""
        print(text, file=sys.stderr, flush=True)


def lines(rows: Sequence[Sequence[str]], indent: str = "  ") -> str:
    """Rows of text with aligned columns."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))] if rows else []
    return "\n".join(
        indent + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
