"""The documentation pages as tests use them: their commands, their code, their tables."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMMAND = re.compile(r"^    (?:\.venv/bin/)?harness ([^#>\n]+)", re.MULTILINE)


@dataclass(frozen=True)
class Page:
    """One page of documentation."""

    path: Path

    @property
    def text(self) -> str:
        """All of it."""
        return self.path.read_text(encoding="utf-8")

    @property
    def commands(self) -> list[list[str]]:
        """The arguments of ``harness`` in every command line of the page, in order."""
        return [shlex.split(found) for found in COMMAND.findall(self.text)]

    @property
    def python(self) -> list[str]:
        """Its blocks of Python."""
        blocks: list[str] = re.findall(r"```python\n(.*?)```", self.text, re.DOTALL)
        return blocks

    @property
    def files(self) -> dict[str, str]:
        """Blocks whose first line is a comment with the name of a file, by that name."""
        named = [(re.match(r"# (\w+\.py)\n", block), block) for block in self.python]
        return {match[1]: block for match, block in named if match}

    def table(self, first: str) -> list[dict[str, str]]:
        """The table whose first column has this title; each row maps column title to cell."""
        (table,) = re.findall(rf"^\| {first} \|.*\n(?:\|.*\n?)+", self.text, re.MULTILINE)
        head, _, *rows = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in table.splitlines()]
        return [dict(zip(head, [*row, ""][: len(head)], strict=True)) for row in rows]


PLUGINS = Page(ROOT / "docs" / "plugins.md")
PAGES = [
    Page(ROOT / "README.md"),
    Page(ROOT / "CONTRIBUTING.md"),
    *(Page(path) for path in sorted((ROOT / "docs").rglob("*.md"))),
]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests that take a ``command`` run for each of every page, tests that take a ``page`` for every page."""
    if "command" in metafunc.fixturenames:
        cases = [(page, command) for page in PAGES for command in page.commands]
        names = [f"{page.path.stem} {place} {' '.join(command)}" for place, (page, command) in enumerate(cases)]
        metafunc.parametrize(("page", "command"), cases, ids=names)
    elif "page" in metafunc.fixturenames:
        metafunc.parametrize("page", PAGES, ids=lambda page: page.path.stem)


@pytest.fixture
def readme() -> Page:
    """The pages for new users."""
    return PAGES[0]


@pytest.fixture
def plugins_page() -> Page:
    """The page on writing a method."""
    return PLUGINS


def pytest_itemcollected(item: pytest.Item) -> None:
    """Shapes and types are checked where units and contracts are tested; here they would double the time."""
    item.add_marker("unchecked")
