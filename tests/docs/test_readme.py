"""The README has what a newcomer needs."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def test_there_are_commands_to_check(readme: Any) -> None:
    assert len(readme.commands) > 8


def test_a_plugin_is_shown_whole(readme: Any) -> None:
    assert list(readme.files) == ["my_affinity.py"]


def test_make_help_lists_the_targets() -> None:
    out = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {"quickstart", "test"} <= {line.split()[1] for line in out.splitlines()}
