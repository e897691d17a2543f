"""Every promise of the page about reliability names a test that exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")


def test_every_test_that_the_page_names_exists() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)
    assert len(named) > 15
    for file, name in named:
        functions = {
            node.name
            for node in ast.parse((ROOT / file).read_text(encoding="utf-8")).body
            if isinstance(node, ast.FunctionDef)
        }
        assert name in functions, f"{file}::{name}"


def test_every_promise_has_a_test() -> None:
    rows = [
        line.split("|")[1:-1] for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith("| what")
    ]
    assert len(rows) > 15
    for row in rows:
        assert len(row) == 3
        assert "::test_" in row[2], row[0]
