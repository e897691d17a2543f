"""The page about a subject of one's own: its file and its test work as shown."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

from harness import run
from harness.closure.verdict import Verdict

DOCS = Path(__file__).resolve().parents[2] / "docs"
EXAMPLES = DOCS / "examples"


def test_the_page_shows_a_subject_in_less_than_60_lines_and_its_test() -> None:
    page = (DOCS / "howto" / "subject.md").read_text(encoding="utf-8")
    shown = {block.splitlines()[0]: block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL)}
    assert set(shown) == {"# my_subject.py", "# test_my_subject.py"}
    assert len(shown["# my_subject.py"].splitlines()) < 60


def test_the_test_on_the_page_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXAMPLES)
    shown: dict[str, Any] = runpy.run_path(str(EXAMPLES / "test_my_subject.py"))
    try:
        shown["test_an_ablated_channel_is_a_channel_of_zeros"]()
    finally:
        del sys.modules["my_subject"]


def test_the_subject_on_the_page_gets_a_verdict(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HARNESS_EXTRA_PLUGINS", str(EXAMPLES / "my_subject.py"))
    result = run(
        "subject=convolution", "batch.n=256", "partitioner.k=[4]", "selector=largest", "reruns=0", "tracking=none"
    )
    assert result.record.closure[0].verdict in set(Verdict)
    assert {unit.partition(":")[0] for unit in result.record.closure[0].units} == {"conv"}
