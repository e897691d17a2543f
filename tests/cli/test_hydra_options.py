"""Words of Hydra's own command line: each works, or is refused with what to type instead."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
import pytest
import yaml

from harness.registry.config import hydra_ready

Run = Callable[..., Any]


@pytest.fixture
def mine(tmp_path: Path) -> tuple[str, str]:
    """``--config-dir`` with an experiment, a subject and a file to start from."""
    files = {
        "experiment/mine.yaml": "# @package _global_\n# Two seeds of mine. More.\ndefaults:\n"
        "  - override /affinity: pearson\n  - _self_\nalpha: 0.1\nhydra:\n  sweeper:\n    params:\n      seed: 1,2\n",
        "subject/mine.yaml": "# An early checkpoint.\ndefaults:\n  - tiny\n  - _self_\ncheckpoint: 200\n",
        "start.yaml": "defaults:\n  - config\n  - _self_\nalpha: 0.2\n",
    }
    for name, text in files.items():
        path = tmp_path / "conf" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return "--config-dir", "conf"


def test_cfg_prints_what_hydra_composes(harness: Run) -> None:
    words = ("affinity=pearson", "alpha=0.01", "~preset", "++subject.memory=1GiB")
    with hydra_ready():
        expected = hydra.compose("config", overrides=list(words))
    assert yaml.safe_load(harness("run", *words, "--cfg", "job").out) == expected
    whole = yaml.safe_load(harness("run", *words, "-c", "all").out)
    assert whole["hydra"]["runtime"]["choices"]["affinity"] == "pearson"
    assert whole["alpha"] == 0.01
    assert set(yaml.safe_load(harness("propose", "--cfg", "hydra").out)) == {"hydra"}
    part = harness("run", *words, "--cfg", "job", "--package", "affinity").out
    assert yaml.safe_load(part) == {"name": "pearson", "transform": "abs"}
    assert harness("run", "alpha=${affinity.l2}", "--cfg", "job", "-p", "alpha", "--resolve").out == "0.001\n"
    assert yaml.safe_load(harness("close", "L0H0,L1H1", "--cfg", "job", "-p", "group").out) == ["L0H0", "L1H1"]


def test_info_prints_what_hydra_loads(harness: Run, mine: Any, tmp_path: Path) -> None:
    assert f"file://{tmp_path}/conf" in harness("run", "--info", "searchpath", *mine).out
    assert "affinity/ising" in harness("run", "--info", "defaults").out


def test_a_folder_of_ones_own_is_searched_by_every_command(harness: Run, small: Any, mine: Any) -> None:
    rest = (*small[1:], *mine)
    for command in ("run", "propose"):
        assert harness(command, "subject=mine", *rest, "--json").data["config"]["subject"]["checkpoint"] == 200
    planned = harness("plan", "experiment=mine", *mine, "--json").data
    assert [" median pearson " in row["title"] for row in planned] == [True, True]
    swept = harness("sweep", "experiment=mine", *rest, "--json").data
    assert [(cell["config"]["seed"], cell["config"]["alpha"]) for cell in swept["cells"]] == [(1, 0.1), (2, 0.1)]
    assert harness("list", "experiment", *mine).out.count("Two seeds of mine.\n") == 1
    assert "2 cells: harness sweep experiment=mine --config-dir" in harness("show", "experiment", "mine", *mine).out
    assert "presets called 'mine': experiment, subject" in harness("show", "mine", *mine).err


def test_a_configuration_starts_from_another_file(harness: Run, mine: Any) -> None:
    assert harness("run", *mine, "--config-name", "start", "--cfg", "job", "-p", "alpha").out == "0.2\n"


def test_workers_of_a_launcher_find_files_of_ones_own(harness: Run, small: Any, mine: Any) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    words = (*small[1:], *mine, "--config-name", "start", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "--json")
    answer = harness("sweep", "subject=mine", "affinity=pearson,cosine", *words)
    assert answer.code == 0, answer.err
    cells = json.loads(answer.out)["cells"]
    assert {(cell["config"]["subject"]["checkpoint"], cell["config"]["alpha"]) for cell in cells} == {(200, 0.2)}
    assert len(cells) == 2


def test_multirun_means_sweep(harness: Run, planted: Any) -> None:
    words = (*planted, "affinity=pearson,cosine", "workspace=here")
    assert "2 cells: 2 ok" in harness("run", "-m", *words).err
    assert "2 cells: 2 ok" in harness("sweep", "--multirun", *words).err


@pytest.mark.parametrize(
    ("command", "typed"),
    [
        (["run", "affinity=ising,pearson", "partitioner.k=[2,3]"], "affinity=ising,pearson 'partitioner.k=[2,3]'"),
        (["propose", "seed=range(0,3)"], "'seed=range(0,3)'"),
        (["close", "L0H0", "L1H1", "intervention=zero,mean"], "intervention=zero,mean 'group=[L0H0,L1H1]'"),
        (["survey", "batch=glob(*)"], "'batch=glob(*)'"),
        (["run", "--cfg", "job", "alpha=0.1,0.2"], "alpha=0.1,0.2"),
        (["run", "experiment=quickstart", "affinity=ising"], "experiment=quickstart affinity=ising"),
    ],
)
def test_several_values_are_refused_with_the_sweep_to_paste(harness: Run, command: list[str], typed: str) -> None:
    answer = harness(*command)
    assert answer.code == 2
    (line,) = [line for line in answer.err.splitlines() if line.startswith("Type ")]
    assert line == f"Type harness sweep {typed}"
    assert harness("plan", *shlex.split(line)[3:]).code == 0


def test_the_sweep_to_paste_has_the_options_of_the_command(harness: Run, mine: Any) -> None:
    error = harness("run", "experiment=mine", *mine).err
    (line,) = [line for line in error.splitlines() if line.startswith("Type ")]
    assert len(harness("plan", *shlex.split(line)[3:], "--json").data) == 2


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["run", "--config-path", "conf"], ["--config-path is not an option", "--config-dir DIR"]),
        (["run", "-cp=conf"], ["--config-dir DIR"]),
        (["run", "--config-dir", "nowhere"], ["nowhere is not a folder"]),
        (["run", "--config-name", "nothing"], ["no file nothing.yaml", "--config-dir"]),
        (["close", "L0H0", "-m"], ["-m is not an option", "harness sweep"]),
        (["leaderboard", "--config-dir", "."], ["unrecognized arguments: --config-dir"]),
        (["run", "--shell-completion"], ["harness completion bash"]),
        (["run", "--hydra-help"], ["--help"]),
        (["run", "--experimental-rerun", "x"], ["harness report"]),
        (["run", "--bogus"], ["unrecognized arguments: --bogus", "harness run --help"]),
        (["run", "--cfg", "jobs"], ["invalid choice: 'jobs'"]),
        (["run", "--cfg", "job", "--info"], ["two questions"]),
        (["run", "--cfg", "job", "--json"], ["Leave out --json"]),
        (["run", "--cfg", "job", "-p", "affinty"], ["--package affinty: there is no such key"]),
        (["run", "--resolve"], ["--resolve goes with --cfg"]),
        (["--cfg", "job"], ["Type harness run --cfg job"]),
        (["affinity=pearson"], ["Type harness run affinity=pearson"]),
        (["run", "hydra.run.dir=x"], ["hydra.run.dir has no effect", "workspace=DIR"]),
        (["sweep", "hydra.sweep.dir=x"], ["hydra.sweep.dir has no effect", "workspace=DIR"]),
        (["sweep", "hydra.sweeper.max_batch_size=2"], ["hydra.launcher.n_jobs=N"]),
        (["sweep", "hydra/sweeper=optuna"], ["comma lists"]),
        (["plan", "hydra.job.name=x"], ["hydra.job.name has no effect"]),
        (["run", "hydra/launcher=joblib"], ["in sweeps only", "harness sweep"]),
        (["run", "hydra.mode=MULTIRUN"], ["harness sweep"]),
        (["run", "~metric"], ["~metric deletes nothing", "metric=[]"]),
        (["run", "~affinity"], ["no affinity is chosen", "ising"]),
        (["run", "~nothing"], ["~nothing deletes nothing"]),
        (["run", "+nothing=1"], ["key 'nothing' is not known"]),
        (["run", "+affinity.nothing=1"], ["parameter 'nothing' is not known"]),
        (["list", "~affinity"], ["has no effect here"]),
        (["completion", "tcsh"], ["shell 'tcsh' is not known", "bash"]),
        (["completion"], ["the name of a shell"]),
        (["show", "experiment", "gird"], ["experiment 'gird' is not known", "Did you mean: grid?"]),
        (["list", "experimen"], ["Did you mean: experiment?"]),
    ],
    ids=" ".join,
)
def test_other_words_are_refused_with_what_to_type(harness: Run, words: list[str], says: list[str]) -> None:
    answer = harness(*words)
    assert answer.code == 2, answer.err
    for part in says:
        assert part in answer.err
    assert "Traceback" not in answer.err
