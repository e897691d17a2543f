"""The page about a subject of one's own: its file and its test work as shown."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

from harness import run
from harness.closure.verdict import Verdict
from tests.docs.conftest import ROOT, Page

EXAMPLES = ROOT / "docs" / "examples"
PAGE = Page(ROOT / "docs" / "howto" / "subject.md")


def test_the_page_shows_the_files_that_are_tested_here() -> None:
    assert set(PAGE.files) == {"my_subject.py", "test_my_subject.py"}
    for name, block in PAGE.files.items():
        assert block == (EXAMPLES / name).read_text(encoding="utf-8")
    assert len(PAGE.files["my_subject.py"].splitlines()) < 60


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
    record = run("subject=convolution", "batch.n=256", "partitioner.k=[4]", "selector=largest", "reruns=0", "tracking=none")
    assert record.closure[0].verdict in set(Verdict)
    assert {unit.partition(":")[0] for unit in record.closure[0].units} == {"conv"}
