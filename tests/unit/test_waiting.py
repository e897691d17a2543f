"""Long steps say what they do, short ones nothing."""

from __future__ import annotations

import time

import pytest

from harness.cells.progress import Progress
from harness.util import waiting


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "PATIENCE", 0.05)


def test_only_a_long_step_says_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    with waiting.said_if_slow("reading a large file"):
        pass
    time.sleep(0.1)
    assert capsys.readouterr().err == ""
    with waiting.said_if_slow("reading a large file"):
        time.sleep(0.2)
    assert capsys.readouterr().err == "  reading a large file ...\n"


@pytest.mark.parametrize("quiet", [False, True])
def test_a_long_step_of_a_cell_is_announced_before_it_ends(quiet: bool, capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(quiet=quiet).step("subject", "hf(model.gguf)"):
        time.sleep(0.2)
        said = capsys.readouterr().err
    assert said == ("" if quiet else "  subject: hf(model.gguf) ...\n")
