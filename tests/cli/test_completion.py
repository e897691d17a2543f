"""Completion of words, by the function and in a real bash."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.cli.completion import SCRIPTS, candidates
from harness.cli.main import COMMANDS, main
from harness.data.stages import STAGES
from harness.registry.config import registry


@pytest.fixture(autouse=True)
def no_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables that a line's options set are taken back after the test."""
    for name in ("HARNESS_EXTRA_PLUGINS", "HARNESS_CONFIG_DIR", "HARNESS_CONFIG_NAME"):
        monkeypatch.setenv(name, "")


def test_commands_stages_methods_and_presets_are_completed() -> None:
    assert candidates("harness ") == sorted(COMMANDS)
    assert candidates("harness list ") == sorted([*STAGES, "experiment", "preset", "workspace="])
    assert candidates("harness show affinity ") == sorted([*registry().names("affinity"), "workspace="])
    assert candidates("harness run affinity=") == [f"affinity={name}" for name in registry().names("affinity")]
    assert {"subject=gpt2", "subject=tiny"} <= set(candidates("harness run subject="))


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("harness le", ["leaderboard"]),
        ("harness run aff", ["affinity="]),
        ("harness sweep affinity=ising,mut", ["affinity=ising,mutual_information"]),
        ("harness sweep metric=[loss,acc", ["metric=[loss,accuracy"]),
        ("harness sweep experiment=gr", ["experiment=grid"]),
        ("harness run batch@contrast=nat", ["batch@contrast=natural_text"]),
        ("harness run affinity=pearson affinity.", ["affinity.transform="]),
        ("harness run affinity.l", ["affinity.l2="]),
        ("harness run alp", ["alpha="]),
        ("harness run --config-", ["--config-dir", "--config-name"]),
        ("harness check mutual", ["mutual_information"]),
        ("harness cache p", ["prune"]),
        ("harness nothing x", []),
        ("harness run nothing", []),
    ],
)
def test_the_last_word_is_completed(line: str, words: list[str]) -> None:
    assert candidates(line) == words


def test_files_of_ones_own_are_completed(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "zz_mine.yaml").write_text("# @package _global_\n{}\n")
    assert candidates(f"harness run --config-dir {tmp_path} experiment=zz") == ["experiment=zz_mine"]


def test_bash_completes_what_follows_the_last_equals_sign(tmp_path: Path) -> None:
    lines = [
        "harness compl",
        "harness run affinity=pearson_",
        "harness sweep affinity=ising,pearson_k",
        "harness run x",
    ]
    asked = "\n".join(
        f"COMP_LINE='{line}' COMP_POINT={len(line)} COMPREPLY=(); _harness; echo \"${{COMPREPLY[*]}}\""
        for line in lines
    )
    script = f'eval "$(harness completion bash)"\n{asked}\ncomplete -p harness'
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
    )
    *completed, registered = done.stdout.splitlines()
    assert completed == ["completion", "pearson_knn", "ising,pearson_knn", ""]
    assert registered == "complete -o default -F _harness harness"


@pytest.mark.parametrize("shell", SCRIPTS)
def test_every_shell_has_a_script_that_asks_the_harness(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    assert "harness completion words" in capsys.readouterr().out
