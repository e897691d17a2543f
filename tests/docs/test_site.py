"""The documentation site: it builds without a warning, its links have targets, and it needs no network."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
from html import unescape
from pathlib import Path
from urllib.parse import unquote

import pytest

import harness
from harness.cells.settings import Settings
from harness.cli.main import COMMANDS
from harness.registry.config import registry

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = re.compile(r'<(a|link|img|script)\b[^>]*?\b(?:href|src)="([^"]*)"')


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` builds it."""
    pytest.importorskip("sphinx", reason="the docs extra is not installed: pip install -e '.[docs]'")
    pytest.importorskip("furo", reason="the docs extra is not installed: pip install -e '.[docs]'")
    pytest.importorskip("myst_nb", reason="the docs extra is not installed: pip install -e '.[docs]'")
    folder = tmp_path_factory.mktemp("site")
    (command,) = re.findall(r"-m (sphinx .*) docs ", (ROOT / "Makefile").read_text(encoding="utf-8"))
    words = [sys.executable, "-m", *command.split(), "docs", str(folder)]
    built = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


def test_every_link_has_an_existing_target(site: Path) -> None:
    pages = {page: page.read_text(encoding="utf-8") for page in site.rglob("*.html")}
    anchors = {page: set(re.findall(r'\bid="([^"]+)"', text)) for page, text in pages.items()}
    assert len(pages) > 20
    for page, text in pages.items():
        for _, link in REFERENCE.findall(text):
            path, _, anchor = unquote(unescape(link)).partition("#")
            if re.match(r"[a-z]+:", path):
                continue
            target = (page.parent / path.partition("?")[0]).resolve() if path else page
            assert target.exists(), f"{page.name}: {link}"
            assert not anchor or target not in anchors or anchor in anchors[target], f"{page.name}: {link}"


def test_nothing_is_loaded_from_a_network(site: Path) -> None:
    for page in site.rglob("*.html"):
        loaded = [link for tag, link in REFERENCE.findall(page.read_text(encoding="utf-8")) if tag != "a"]
        assert not [link for link in loaded if re.match(r"(https?:)?//", link)], page.name
    for style in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//", style.read_text(encoding="utf-8")), style.name


def test_the_notebook_is_shown_with_the_outputs_of_its_cells(site: Path) -> None:
    page = (site / "examples" / "closure.html").read_text(encoding="utf-8")
    outputs = page.split('<div class="cell_output')[1:]
    elements = [output for output in outputs if 'class="closure-harness"' in output]
    assert len(elements) == 3  # a test, a proposal, a sweep
    assert all("<svg" in element for element in elements[:2])
    assert sum('<table border="1" class="dataframe">' in output for output in outputs) == 3
    assert re.search(r'<img [^>]*src="../_images/\w+\.png"', page)
    assert not re.search(r"Traceback|Warning|output stderr", page)


def test_the_committed_notebook_has_no_outputs() -> None:
    notebook = json.loads((ROOT / "docs" / "examples" / "closure.ipynb").read_text(encoding="utf-8"))
    assert not [cell for cell in notebook["cells"] if cell.get("outputs") or cell.get("execution_count")]


def test_every_public_name_is_on_its_page(site: Path) -> None:
    page = (site / "reference" / "api.html").read_text(encoding="utf-8")
    described = {name.rpartition(".")[2] for name in re.findall(r'<dt[^>]* id="(harness\.[\w.]+)"', page)}
    assert set(harness.__all__) <= described


def test_every_method_and_parameter_is_on_its_page(site: Path) -> None:
    page = (site / "reference" / "methods.html").read_text(encoding="utf-8")
    for method in registry().methods.values():
        anchor = f'id="{method.stage}-{method.name.replace("_", "-")}"'
        section = page.partition(anchor)[2].partition("</section>")[0]
        assert section, f"{method.stage} {method.name}"
        for parameter in method.parameters:
            assert f'<span class="pre">{parameter}</span>' in section, f"{method.stage}.{parameter}"


def test_every_command_and_setting_is_on_its_page(site: Path) -> None:
    commands = (site / "reference" / "commands.html").read_text(encoding="utf-8")
    for name in COMMANDS:
        assert f"<h2>harness {name}<" in commands
    settings = (site / "reference" / "configuration.html").read_text(encoding="utf-8")
    for name in Settings.__dataclass_fields__:
        assert f'<span class="pre">{name}</span>' in settings


def test_the_committed_picture_is_the_one_the_script_draws() -> None:
    drawn = runpy.run_path(str(ROOT / "docs" / "figures" / "cell.py"))
    for theme in drawn["COLOURS"]:
        committed = (ROOT / "docs" / "static" / f"cell-{theme}.svg").read_text(encoding="utf-8")
        assert committed == drawn["picture"](theme)
