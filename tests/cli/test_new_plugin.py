"""new-plugin: the files it writes work immediately, for every stage, and it overwrites nothing."""

from __future__ import annotations

import importlib
import inspect
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from harness.data.stages import STAGES, inputs_of
from harness.registry.config import registry

Run = Callable[..., Any]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def import_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """Import a module written into the folder of the test, and unload it afterwards."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if Path(getattr(sys.modules[name], "__file__", None) or os.devnull).parent == tmp_path:
            del sys.modules[name]


# The new subject takes a minute; a new subject of every family is checked below.
CHECKED = [pytest.param(stage, marks=[pytest.mark.slow] if stage == "subject" else []) for stage in STAGES]


@pytest.mark.parametrize("stage", CHECKED)
def test_a_new_plugin_satisfies_its_contract_and_passes_its_own_test(
    harness: Run, stage: str, tmp_path: Path, import_here: Callable[[str], ModuleType]
) -> None:
    name = f"my_{stage}"
    answer = harness("new-plugin", stage, name, "--json")
    assert answer.code == 0, answer.err
    assert answer.data["paths"] == [f"{name}.py", f"test_{name}.py"]
    assert sorted(path.name for path in tmp_path.iterdir()) == answer.data["paths"]

    checked = harness("check", "--plugin", f"{name}.py", name, "--json")
    assert checked.code == 0, checked.out
    outcomes = [finding["outcome"] for finding in checked.data]
    assert outcomes.count("passed") >= 8
    functions = inspect.getmembers(import_here(f"test_{name}"), inspect.isfunction)
    tests = [function for word, function in functions if word[:5] == "test_"]
    assert len(tests) == 2
    for test in tests:
        test()


@pytest.mark.parametrize("stage", STAGES)
def test_a_new_plugin_is_documented(harness: Run, stage: str, tmp_path: Path) -> None:
    assert harness("new-plugin", stage, "my_own").code == 0
    shown = harness("show", "--plugin", "my_own.py", stage, "my_own", "--json").data
    for part in ("Errors:", "Source:", *(() if stage in ("subject", "batch") else ("Input:", "Output:"))):
        assert part in shown["doc"], part
    assert shown["parameters"], "a first parameter shows how others are added"
    source = (tmp_path / "my_own.py").read_text()
    assert source.count('"help": ') == len(shown["parameters"])
    assert "$" not in source + (tmp_path / "test_my_own.py").read_text()


def test_a_new_plugin_passes_the_linter(harness: Run, tmp_path: Path) -> None:
    for stage in STAGES:
        assert harness("new-plugin", stage, f"my_{stage}").code == 0
    ruff = [sys.executable, "-m", "ruff"]
    for words in (["check", "--select=E,W,F,I,B,UP"], ["format", "--check"]):
        call = [*ruff, *words, "--isolated", "--no-cache", "--line-length=120", "--target-version=py311", str(tmp_path)]
        done = subprocess.run(call, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


def test_the_written_test_runs_under_pytest(harness: Run, tmp_path: Path) -> None:
    harness("new-plugin", "affinity", "my_affinity")
    call = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_my_affinity.py"]
    done = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout


def test_the_written_test_notices_a_broken_plugin(
    harness: Run, tmp_path: Path, import_here: Callable[[str], ModuleType]
) -> None:
    harness("new-plugin", "affinity", "spoiled")
    plugin = tmp_path / "spoiled.py"
    plugin.write_text(plugin.read_text().replace("np.fill_diagonal(matrix, 0)", "np.fill_diagonal(matrix, 1)"))
    with pytest.raises(AssertionError, match="non-zero diagonal"):
        import_here("test_spoiled").test_it_keeps_the_contract_of_its_stage()


def test_the_command_that_new_plugin_prints_runs_a_cell(harness: Run, small: Any) -> None:
    for stage in ("affinity", "metric"):
        following = harness("new-plugin", stage, f"my_{stage}", "--json").data["next"]
        (run,) = [command for command in following if command.startswith("harness run")]
        answer = harness(*run.replace("'", "").split()[1:], *small)
        assert answer.code == 0, answer.err
        assert f"my_{stage}" in answer.out.replace("my metric", "my_metric")


@pytest.mark.parametrize("stage", STAGES)
def test_every_template_uses_the_input_names_of_its_stage(
    harness: Run, stage: str, import_here: Callable[[str], ModuleType]
) -> None:
    harness("new-plugin", stage, "asking")
    (cls,) = getattr(import_here("asking"), STAGES[stage].hook)()
    assert set(inputs_of(cls)) <= set(STAGES[stage].asks)
    assert (cls.name, cls.__name__) == ("asking", "Asking")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["affinty", "mine"], ["stage 'affinty' is not known", "Did you mean: affinity?"]),
        (["affinity"], ["takes a stage and a name", "harness new-plugin affinity my_affinity"]),
        (["affinity", "mine", "yours"], ["takes a stage and a name"]),
        (["affinity", "My-Affinity"], ["'My-Affinity' is not a name", "harness new-plugin affinity my_affinity"]),
        (["affinity", "2nd"], ["'2nd' is not a name", "harness new-plugin affinity nd"]),
        (["affinity", "a/b"], ["'a/b' is not a name"]),
        (["affinity", "Ähnlich"], ["is not a name"]),
        (["affinity", "ising"], ["affinity 'ising' exists already, in closure-harness", "my_ising"]),
        (["affinity", "class"], ["'class' is a word or a module of Python", "my_class"]),
        (["binarizer", "statistics"], ["'statistics' is a word or a module of Python"]),
        (["affinity", "spins"], ["its class would be called Spins", "my_spins"]),
        (["affinity", "mine", "affinity.power=2"], ["'affinity.power=2' has no effect here"]),
    ],
    ids=lambda value: " ".join(value) if value and " " not in value[0] else "",
)
def test_invalid_arguments_are_refused_and_nothing_is_written(
    harness: Run, words: list[str], says: list[str], tmp_path: Path
) -> None:
    answer = harness("new-plugin", *words)
    assert answer.code == 2
    for part in says:
        assert part in answer.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("stage", STAGES)
def test_an_existing_method_name_is_refused(harness: Run, stage: str) -> None:
    for name in registry().names(stage)[:1]:
        assert "exists already" in harness("new-plugin", stage, name).err


@pytest.mark.parametrize("there", ["mine.py", "test_mine.py"])
def test_an_existing_file_is_not_overwritten(harness: Run, tmp_path: Path, there: str) -> None:
    (tmp_path / there).write_text("precious")
    answer = harness("new-plugin", "affinity", "mine")
    assert answer.code == 2
    assert f"{there} exists already" in answer.err
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(there, "precious")]


def test_every_stage_has_a_template() -> None:
    found = {path.name for path in (ROOT / "harness" / "scaffold").iterdir()}
    families = {"subject_neurons.py.txt", "subject_vectors.py.txt"}
    assert found == {f"{stage}.py.txt" for stage in STAGES} | {"contract.py.txt"} | families


@pytest.mark.parametrize(("family", "units"), [("heads", "L0H0"), ("neurons", "L0N0"), ("vectors", "h0:0")])
def test_a_new_subject_of_every_family_is_short_correct_and_runs(
    harness: Run, family: str, units: str, tmp_path: Path, import_here: Callable[[str], ModuleType]
) -> None:
    name = f"my_{family}"
    assert harness("new-plugin", "subject", name, f"--family={family}").code == 0
    for path in (tmp_path / f"{name}.py", tmp_path / f"test_{name}.py"):
        assert len(path.read_text().splitlines()) < 60
    module = import_here(f"test_{name}")
    module.test_a_number_from_theory()
    module.test_it_keeps_the_contract_of_its_stage()
    (cls,) = import_here(name).harness_subjects()
    assert cls()().units.labels[0] == units


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["subject", "mine", "--family=experts"], "choose from"),
        (["affinity", "mine", "--family=neurons"], "only subjects have a family"),
    ],
)
def test_a_family_that_does_not_exist_is_refused(harness: Run, words: list[str], says: str, tmp_path: Path) -> None:
    answer = harness("new-plugin", *words)
    assert (answer.code, says in answer.err) == (2, True), answer.err
    assert not list(tmp_path.iterdir())
