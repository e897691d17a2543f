"""list, show, check, doctor, help: they are complete and quick, and they report broken plugins."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.data.stages import STAGES
from harness.registry.config import registry

Run = Callable[..., Any]


def test_list_names_every_method_with_its_parameters_and_owner(harness: Run) -> None:
    answer = harness("list")
    assert answer.code == 0
    for (stage, name), method in registry().methods.items():
        assert f"\n  {name}" in answer.out, (stage, name)
        assert method.owner in answer.out
    assert "l2=0.001" in answer.out
    assert "broken" not in answer.out
    assert "presets: deepseek-v2-lite" in answer.out


def test_list_of_a_stage_shows_only_that_stage(harness: Run) -> None:
    data = harness("list", "controls", "--json").data
    assert {method["stage"] for method in data["methods"]} == {"controls"}
    assert {method["name"] for method in data["methods"]} >= {"layer_matched", "uniform"}


def test_list_describes_experiments_and_presets(harness: Run) -> None:
    whole = harness("list").out
    for group in ("experiment", "preset"):
        listed = harness("list", group).out
        assert listed.strip() in whole
        assert "affinity:" not in listed
    experiments = harness("list", "experiment").out
    described = [line.split(maxsplit=1) for line in experiments.splitlines()]
    assert ["paper_1", "The closure paper's test 1: OLMo-1B on synthetic induction."] in described
    assert harness("list", "preset", "--json").data["presets"] == {"preset": ["default", "paper"]}


def test_show_prints_what_a_preset_sets_and_how_many_cells_it_makes(harness: Run) -> None:
    shown = harness("show", "grid").out
    assert shown == harness("show", "experiment", "grid").out
    assert "      affinity: ising,mutual_information,pearson_knn\n" in shown
    assert shown.endswith("81 cells: harness sweep experiment=grid\n")
    paper = harness("show", "preset", "paper", "--json").data
    assert paper["cells"] == 1
    assert "futility: null" in paper["sets"]
    assert "GPT-2 small: 12 layers" in harness("show", "subject", "gpt2").out


def test_show_prints_formula_and_source(harness: Run) -> None:
    answer = harness("show", "affinity", "ising")
    assert "    P(sᵢ | s₋ᵢ) = σ(2 sᵢ (hᵢ + ∑ⱼ Jᵢⱼ sⱼ))\n" in answer.out
    assert "`" not in answer.out
    assert ":math:" in harness("show", "affinity", "ising", "--json").data["doc"], "JSON has the docstring as it is"
    assert "Besag 1975" in answer.out
    assert "affinity.l2=0.001" in answer.out


def test_a_broken_plugin_is_reported_and_the_others_load(
    harness: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text("import no_such_module\n")
    monkeypatch.setenv("HARNESS_EXTRA_PLUGINS", str(bad))
    listing = harness("list")
    assert listing.code == 0
    assert "broken" in listing.out
    assert "No module named 'no_such_module'" in listing.out
    assert "mutual_information" in listing.out
    doctor = harness("doctor")
    assert doctor.code == 1
    assert "no_such_module" in doctor.out


@pytest.mark.parametrize("installed", [False, True])
def test_an_import_of_a_moved_name_is_refused_with_its_new_place(
    harness: Run, installed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "zz_moved.py").write_text("from harness.groups import Affinity\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    plugin = "zz_moved" if installed else str(tmp_path / "zz_moved.py")
    says = "harness.groups has moved. Write: from harness import Affinity"
    refused = harness("run", "--plugin", plugin, "tracking=none")
    assert refused.code == 2
    assert refused.err == f"harness: plugin {plugin} cannot be used: {says}\n"
    monkeypatch.setenv("HARNESS_EXTRA_PLUGINS", plugin)
    assert f"broken: {plugin} ({plugin})\n  {says}" in harness("list").out
    doctor = harness("doctor")
    assert doctor.code == 1
    assert says in doctor.out


def test_the_error_names_both_plugins_that_offer_the_same_name(
    harness: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = (
        "from dataclasses import dataclass\nfrom typing import ClassVar\nfrom harness import hookimpl\n"
        '@dataclass(frozen=True)\nclass Mine:\n    """Mine."""\n    name: ClassVar[str] = \'ising\'\n'
        "    def __call__(self, spins): ...\n@hookimpl\ndef harness_affinities(): return [Mine]\n"
    )
    mine = tmp_path / "mine.py"
    mine.write_text(source)
    monkeypatch.setenv("HARNESS_EXTRA_PLUGINS", str(mine))
    answer = harness("run", "affinity=ising", "tracking=none")
    assert answer.code == 2
    assert "offered twice" in answer.err
    assert "closure-harness" in answer.err
    assert "mine.py" in answer.err


def test_a_blocked_plugin_offers_no_methods(harness: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_BLOCK_PLUGINS", "affinities.ising")
    names = {method["name"] for method in harness("list", "affinity", "--json").data["methods"]}
    assert "ising" not in names
    assert "mutual_information" in names


def test_only_the_selected_plugins_are_loaded(harness: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_PLUGINS", "affinities.ising,binarizers.median")
    names = {method["name"] for method in harness("list", "--json").data["methods"]}
    assert names == {"ising", "median"}


def test_check_tests_a_plugin_against_its_contract(harness: Run) -> None:
    answer = harness("check", "mutual_information")
    assert answer.code == 0
    assert "0 failed" in answer.out


def test_doctor_finds_no_problem_in_this_environment(harness: Run) -> None:
    answer = harness("doctor")
    assert answer.code == 0, answer.out
    assert "hydra-core" in answer.out
    assert "independent fits on" in answer.out
    assert "all limited to 1 outside the model" in answer.out
    assert "everything works" in answer.out


@pytest.mark.parametrize(
    "command", ["run", "sweep", "close", "list", "check", "leaderboard", "doctor", "survey", "plan"]
)
def test_every_command_explains_itself(harness: Run, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        harness(command, "--help")
    assert end.value.code == 0
    out = capsys.readouterr().out
    assert "KEY=VALUE" in out
    assert "--json" in out


def test_help_lists_every_command_and_stage_names_are_words(harness: Run) -> None:
    from harness.cli.main import COMMANDS

    out = harness("--help").out
    assert all(f"  {name} " in out for name in COMMANDS)
    assert all(stage.isidentifier() for stage in STAGES)


@pytest.mark.parametrize(
    ("words", "forbidden"),
    [
        (["--help"], ["torch", "mlflow", "transformers", "hydra", "numpy", "sklearn"]),
        (["list"], ["torch", "mlflow", "transformers", "sklearn", "matplotlib"]),
        (["plan"], ["torch", "mlflow", "transformers", "sklearn", "matplotlib"]),
    ],
)
def test_quick_commands_import_no_heavy_library(words: list[str], forbidden: list[str], tmp_path: Path) -> None:
    code = (
        "import sys\nfrom harness.cli.main import main\n"
        f"code = main({words!r})\n"
        f"loaded = [name for name in {forbidden!r} if name in sys.modules]\n"
        "sys.exit(f'loaded {loaded}' if loaded else code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "words", [["--help"], ["show", "--help"], ["--version"], ["list", "controls"], ["list", "nope"]]
)
def test_python_m_harness_is_harness(words: list[str], tmp_path: Path) -> None:
    script = [str(Path(sys.executable).parent / "harness"), *words]
    module = [sys.executable, "-m", "harness", *words]
    answers = [
        subprocess.run(call, capture_output=True, text=True, cwd=tmp_path, check=False) for call in (script, module)
    ]
    assert len({(answer.returncode, answer.stdout, answer.stderr) for answer in answers}) == 1
    assert answers[0].returncode == (2 if "nope" in words else 0)
    assert "__main__" not in answers[1].stdout


def test_the_public_api_imports_no_heavy_library(tmp_path: Path) -> None:
    code = "import sys, harness; print([name for name in ('numpy', 'torch', 'hydra', 'pluggy') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.stdout == "[]\n"
