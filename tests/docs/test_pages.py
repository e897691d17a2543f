"""The commands on pages work, and their links have targets."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from harness.cells.cell import Cell
from harness.cli.main import COMMANDS, main, parser_of
from harness.data.stages import STAGES
from harness.registry.config import expand, registry, resolve_all
from harness.registry.presets import GROUPS, find_preset

ROOT = Path(__file__).resolve().parents[2]
OWN = {
    "leaderboard": ("out",),
    "trajectory": ("out",),
    "calibrate": ("out", "worlds"),
    "matrix": ("out", "on"),
    "experts": ("out",),
    "decompose": COMMANDS["decompose"].keys,
}  # keys of a command, not of a cell
EXAMPLES = ROOT / "docs" / "examples"


@cache
def _build(words: tuple[str, ...], plugins: tuple[str, ...]) -> None:
    """Build the cells of a command. Several pages name the same grids; ``plugins`` are loaded already."""
    methods = registry()
    cells = expand(words, methods)
    assert cells
    for config in resolve_all(cells, methods):
        Cell.of(config, methods)


def _plugin(page: Any, file: str, folder: Path) -> Path:
    """A plugin that a page names: the example, or what the page's own ``new-plugin`` writes."""
    for name, *words in page.commands:
        if name == "new-plugin" and f"{words[1]}.py" == file and file not in page.files:
            assert main(["new-plugin", *words]) == 0
            return folder / file
    return EXAMPLES / file


def test_every_command_on_a_page_is_valid_and_its_cells_can_be_built(
    page: Any, command: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    name, *rest = command
    assert name in COMMANDS
    typed = parser_of(name).parse_intermixed_args(rest)  # exits where a flag is not known
    plugins = [str(_plugin(page, plugin, tmp_path)) for plugin in typed.plugin]
    monkeypatch.setenv("HARNESS_EXTRA_PLUGINS", ",".join(plugins))
    registered = registry()
    assert not [problem for problem in registered.problems if problem.origin in plugins]

    words = [word for word in typed.words if "=" not in word]
    assert bool(words) <= bool(COMMANDS[name].words)
    if name in ("list", "new-plugin"):
        assert set(words[:1]) <= {*STAGES, *(GROUPS if name == "list" else ())}
    if name == "show":
        assert find_preset(words[-1], registered, *words[:-1]) or registered.get(*words)
    if name == "check":
        assert set(words) <= {method for _, method in registered.methods}
    words = [word for word in typed.words if "=" in word and re.split("[=.]", word)[0] not in OWN.get(name, ())]
    _build(tuple(words), tuple(plugins))


def test_links_have_existing_targets(page: Any) -> None:
    headings = re.findall(r"^#+ (.*)$", page.text, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
    for target in re.findall(r"\]\((?!http)([^)]+)\)", page.text):
        path, _, anchor = target.partition("#")
        assert (page.path.parent / path).exists(), target
        assert not anchor or path or anchor in anchors, target


def test_files_named_on_a_page_exist(page: Any) -> None:
    ours = "harness|plugins|conf|tests|docs|leaderboards|benchmarks"
    for name in re.findall(rf"`((?:{ours})/[\w./-]+)`", page.text):
        assert (ROOT / name).exists(), name


def test_make_targets_exist(page: Any) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for targets in re.findall(r"^    make ([a-z -]+)", page.text, re.MULTILINE):
        for target in targets.split():
            assert re.search(rf"^{target}:.*## ", makefile, re.MULTILINE), target


def test_examples_on_a_page_are_the_files_that_the_suite_runs(page: Any) -> None:
    for name, block in page.files.items():
        assert block == (EXAMPLES / name).read_text(encoding="utf-8"), f"{page.path.name} and {EXAMPLES / name} differ"
