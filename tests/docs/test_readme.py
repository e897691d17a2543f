"""What the README tells a newcomer to type is what works."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.cli.main import COMMANDS
from harness.config import expand, registry

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMAND = re.compile(r"^    (?:\.venv/bin/)?(harness [^#\n]+)", re.MULTILINE)


def commands() -> list[list[str]]:
    return [shlex.split(found)[1:] for found in COMMAND.findall(README)]


def plugin_source() -> str:
    (source,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    return source


def test_there_are_commands_to_check() -> None:
    assert len(commands()) > 8


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_of_the_readme_is_one(words: list[str]) -> None:
    assert words[0] in COMMANDS
    overrides = [word for word in words[1:] if "=" in word and "agreement" not in word and "power" not in word]
    if words[0] in ("run", "sweep", "survey", "close"):
        assert expand(overrides, registry())


def test_the_readmes_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^    make ([a-z-]+)", README, re.MULTILINE):
        assert re.search(rf"^{target}:.*## ", makefile, re.MULTILINE), target


def test_the_readmes_plugin_passes_its_contract_and_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from harness.cli.main import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HARNESS_EXTRA_PLUGINS", "")
    (tmp_path / "my_affinity.py").write_text(plugin_source())
    call: Callable[..., Any] = lambda *words: main([*words, "--plugin", "my_affinity.py"])  # noqa: E731
    assert call("check", "agreement") == 0, capsys.readouterr().out
    cell = ("affinity=agreement", "affinity.power=2", "batch.n=16", "controls.n=19", "tracking=none")
    assert call("run", *cell) == 0, capsys.readouterr().err
    assert "agreement(power=2" in capsys.readouterr().out


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!http)([^)]+)\)", README):
        assert (ROOT / target).exists(), target


def test_make_help_lists_the_targets() -> None:
    out = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {"quickstart", "test"} <= {line.split()[1] for line in out.splitlines()}
