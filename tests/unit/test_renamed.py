"""Old names of settings, modules, classes and functions: each is refused with the new name."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Callable
from pathlib import Path

import pytest

import harness
from harness.registry import plugins
from harness.registry.config import expand, registry, resolve
from harness.registry.renamed import FIELDS, MODULES, NAMES, SETTINGS
from harness.util.errors import HarnessError

HOOK = "\n@hookimpl\ndef harness_affinities():\n    return []\n"
FOLDER = "from harness import hookimpl\n@hookimpl\ndef harness_config_paths():\n    return ['file://{folder}']\n"


def refusal(call: Callable[..., object], *overrides: str) -> HarnessError:
    with pytest.raises(HarnessError) as caught:
        call(overrides, registry())
    return caught.value


@pytest.mark.parametrize("call", [resolve, expand])
@pytest.mark.parametrize(
    ("override", "what", "fix"),
    [
        ("give_up=5", "give_up is now called futility.", "Write futility=5."),
        ("+give_up=5", "give_up is now called futility.", "Write futility=5."),
        ("give_up=5,10", "give_up is now called futility.", "Write futility=5,10."),
        ("give_up=", "give_up is now called futility.", "Write futility=."),
        ("elsewhere.n=6", "elsewhere.n is now called contrast.n.", "Write contrast.n=6."),
        (
            "batch@elsewhere=natural_text",
            "batch@elsewhere is now called batch@contrast.",
            "Write batch@contrast=natural_text.",
        ),
        ("~batch@elsewhere", "~batch@elsewhere is now called ~batch@contrast.", "Write '~batch@contrast'."),
        ("elsewhere.vocab=[1, 9]", "elsewhere.vocab is now called contrast.vocab.", "Write 'contrast.vocab=[1, 9]'."),
    ],
)
def test_an_old_key_is_refused_with_the_new_one(
    call: Callable[..., object], override: str, what: str, fix: str
) -> None:
    error = refusal(call, "subject=tiny", override)
    assert (error.what, error.fix) == (what, fix)


def test_a_current_key_that_contains_an_old_word_is_accepted() -> None:
    assert resolve(["batch@contrast=natural_text", "contrast.n=6"], registry())["contrast"]["n"] == 6
    assert "there is no key 'contrast.elsewhere'" in refusal(resolve, "contrast.elsewhere=1").what


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("give_up: 5\n", "Write futility in the configuration file that sets give_up (chosen by: experiment=old)"),
        (
            "defaults:\n  - /batch@elsewhere: natural_text\n  - _self_\n",
            "Write contrast in the configuration file that sets elsewhere (chosen by: experiment=old)",
        ),
        (
            "hydra:\n  sweeper:\n    params:\n      give_up: 5,10\n",
            "Write futility in the configuration file that sets give_up (chosen by: experiment=old)",
        ),
        ("defaults:\n  - override /batch@elsewhere: natural_text\n", "Write batch@contrast."),
    ],
)
def test_an_old_key_in_a_configuration_file_is_refused(
    text: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = tmp_path / "conf" / "experiment" / "old.yaml"
    experiment.parent.mkdir(parents=True)
    experiment.write_text(f"# @package _global_\n{text}")
    plugin = tmp_path / "folder.py"
    plugin.write_text(FOLDER.format(folder=tmp_path / "conf"))
    monkeypatch.setenv(plugins.EXTRA_VARIABLE, str(plugin))

    def every_cell(overrides: tuple[str, ...], methods: object) -> None:
        for cell in expand(overrides, registry()):
            resolve(cell, registry())

    assert says in refusal(every_cell, "experiment=old").fix


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("from harness.groups import Affinity", "harness.groups has moved. Write: from harness import Affinity"),
        ("from harness.hookspecs import hookimpl", "harness.hookspecs has moved. Write: from harness import hookimpl"),
        (
            "from harness.engine.prediction import Prediction",
            "harness.engine.prediction has moved. Write: from harness import Prediction",
        ),
        (
            "from harness.batch import Twin",
            "harness.batch has moved. Twin is now called Counterfactual. Write: from harness import Counterfactual",
        ),
        (
            "from harness.batch import (\n    Batch,\n    LOCAL as places,\n)",
            "harness.batch has moved. Write: from harness import Batch; from harness.data.tokens import LOCAL",
        ),
        (
            "from harness.data.batch import default_id_range",
            "Write: from harness import default_id_range",
        ),
        (
            "from harness import layer_bands",
            "layer_bands is now called site_bands. Write: from harness import site_bands",
        ),
        (
            "from harness.engine.replacement import mean_outputs",
            "mean_outputs is now called moments. Write: from harness.engine.replacement import moments",
        ),
        ("from harness import Twin", "Twin is now called Counterfactual. Write: from harness import Counterfactual"),
        (
            "from harness.data.stages import asked",
            "asked is now called inputs_of. Write: from harness.data.stages import inputs_of",
        ),
        (
            "from harness.stages import only_at_query",
            "harness.stages has moved. only_at_query(method) is now method.positions == 'query'.",
        ),
        ("from harness import groups", "groups is now called grouping. Write: from harness.data import grouping"),
        ("import harness.groups", "harness.groups has moved. Write: import harness.data.grouping"),
        (
            "from harness.registry import Registry",
            "harness.registry has moved. Write: from harness.registry.registry import Registry",
        ),
        (
            "from harness.cost.flops import Work",
            "harness.cost.flops has moved. Write: from harness.engine.flops import Work",
        ),
        (
            "def load():\n    from harness.groups import Labels\nload()",
            "harness.groups has moved. Write: from harness import Labels",
        ),
        ("from harness.nothing import X", "ModuleNotFoundError: No module named 'harness.nothing'"),
        ("from harness import Nothing", "ImportError: cannot import name 'Nothing' from 'harness'"),
        ("from harness.closure.trial import Nothing", "ImportError: cannot import name 'Nothing'"),
    ],
)
def test_the_error_for_a_moved_import_names_the_new_place(
    text: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin = tmp_path / "old.py"
    plugin.write_text(f"import os\n\n{text}\n")
    monkeypatch.setenv(plugins.EXTRA_VARIABLE, str(plugin))
    (broken,) = plugins.load().broken
    assert broken.reason.startswith(reason)


def test_an_installed_module_gets_the_same_message_as_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "zz_old_import.py").write_text(f"from harness.groups import Affinity\n{HOOK}")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv(plugins.EXTRA_VARIABLE, "zz_old_import")
    (broken,) = plugins.load().broken
    assert broken.reason == "harness.groups has moved. Write: from harness import Affinity"


def test_a_moved_import_inside_a_hook_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = tmp_path / "late.py"
    late = "def harness_affinities():\n    from harness.groups import Affinity\n    return [Affinity]\n"
    plugin.write_text(f"from harness import hookimpl\n@hookimpl\n{late}")
    monkeypatch.setenv(plugins.EXTRA_VARIABLE, str(plugin))
    found = plugins.load()
    list(found.calls("harness_affinities"))
    assert [broken.reason for broken in found.broken] == [
        "harness.groups has moved. Write: from harness import Affinity"
    ]


def test_every_new_place_exists_and_no_old_place_does() -> None:
    folder = Path(harness.__file__).parent.parent
    for old, new in MODULES.items():
        assert importlib.util.find_spec(new), new
        assert not folder.joinpath(*old.split(".")).with_suffix(".py").exists(), old
    for new in NAMES.values():
        module, _, name = new.rpartition(".")
        tree = ast.parse(folder.joinpath(*module.split(".")).with_suffix(".py").read_text())
        defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        constants = {
            ast.unparse(target) for node in tree.body if isinstance(node, ast.Assign) for target in node.targets
        }
        assert name in defined | constants, new
    assert not set(FIELDS) & set(NAMES)
    assert set(SETTINGS.values()) <= set(resolve(["batch@contrast=natural_text"], registry()))
