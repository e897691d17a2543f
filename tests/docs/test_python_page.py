"""The page about Python: its blocks run, one after the other, as in a notebook."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import harness

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")


def test_the_blocks_of_the_page_run_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "__main__"}
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == PAGE.count("```") // 2
    for block in blocks:
        exec(compile(block, "docs/python.md", "exec", dont_inherit=True), names)
    assert names["again"].cell.id == names["record"].cell.id
    assert names["result"].effects


def test_the_page_shows_every_function_for_notebooks() -> None:
    source = Path(harness.__file__).with_suffix(".pyi").read_text(encoding="utf-8")
    functions = re.findall(r"^from \.notebook\.calls import (\w+)", source, re.MULTILINE)
    assert functions
    for name in functions:
        assert re.search(rf"\b{name}\(", PAGE), name
