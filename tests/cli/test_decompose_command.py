"""The command that decomposes matrices, as a user types it."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from harness import method
from harness.cli.main import COMMANDS, main
from harness.cli.words import KEYS
from harness.decomposition.artefact import Decomposition
from harness.decomposition.recipes import RECIPES
from harness.decomposition.settings import Settings
from harness.util.validation import validated

SHORT = ("steps=20", "warmup=5", "rows=32", "batch.n=512", "subcomponents=6", "hidden=8", "tracking=none")


def test_settings_of_a_decomposition_have_names_of_their_own() -> None:
    assert not set(COMMANDS["decompose"].keys[2:]) & KEYS


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_have_valid_settings(name: str) -> None:
    validated(Settings, RECIPES[name].settings)


def test_a_toy_is_decomposed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "a.safetensors"
    assert main(["decompose", "tms_5_2_id", *SHORT, "subject.seed=1", "seed=2", f"out={out}", "--json"]) == 0
    printed = capsys.readouterr()
    data = json.loads(printed.out)
    assert data["target"] == "tms_5_2_id-1"
    assert data["settings"]["seed"] == 2
    assert printed.err.count("alive") == 20  # lines of progress
    found = Decomposition.load(out)
    assert found.sites.keys() == {"linear1", "hidden.0", "linear2"}
    assert dict(found.fidelity) == data["fidelity"]
    assert found.target is not None
    assert not found.tied


def test_matrices_of_a_language_model_are_decomposed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sites = ["model.layers.0.self_attn.v_proj", "model.layers.1.mlp.gate_proj"]
    words = ["steps=3", "rows=2", "batch.n=8", f"sites=[{','.join(sites)}]", "subcomponents=6"]
    out = tmp_path / "a.safetensors"
    assert main(["decompose", "subject=tiny", "batch=random_repeat", *words, f"out={out}", "--json"]) == 0
    found = Decomposition.load(out)
    assert list(found.sites) == sites
    assert found.target is None
    fidelity = json.loads(capsys.readouterr().out)["fidelity"]
    assert 0 < fidelity["error unmasked"] < fidelity["error adversarial"]
    subject = method("subject", "spd", decomposition=str(out))()
    assert {unit.site for unit in subject.units.units} <= set(sites)
    assert subject.about["decomposition"]["error masked"] == fidelity["error masked"]


def test_the_command_that_decompose_prints_closes_the_subcomponents_of_a_users_module(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = "from torch import nn\n\ndef build():\n    return nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 6))\n"
    (tmp_path / "mine.py").write_text(source)
    words = ["subject=torch_module", "subject.module=mine.py:build", "batch=sparse_features", "batch.n=64"]
    assert main(["decompose", *words, "steps=20", "rows=16", "subcomponents=8", "hidden=4"]) == 0
    printed = capsys.readouterr().out
    (typed,) = [line for line in printed.splitlines() if line.startswith("next: ")]
    binary, *command = shlex.split(typed.removeprefix("next: "))
    assert binary == "harness"
    assert main([*command, "partitioner=same_index", "tracking=none", "controls.n=3"]) == 0
    card = capsys.readouterr().out
    error = re.search(r"error masked +([\d.e-]+)", printed)
    assert error
    assert f"mean squared difference of the decomposed model: {float(error[1]):.3g} with importances as masks" in card


def test_tied_matrices_with_more_subcomponents_than_rank_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["sites=[linear1,linear2]", "tied=[linear1,linear2]", f"out={tmp_path / 'a.safetensors'}"]
    assert main(["decompose", "tms_5_2", *SHORT, *words]) == 0
    printed = capsys.readouterr().out
    assert "linear1 and linear2 share their tensors (tied), so that pairs of one index are built in" in printed
    assert "6 subcomponents share matrices of rank 2" in printed


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["tms_40_11"], "recipe 'tms_40_11' is not known. Did you mean: tms_40_10"),
        (["tms_40_10", "setps=5"], "setting 'setps' is not known. Did you mean: steps"),
        (["tms_40_10", "steps=abc"], "steps='abc': must be an integer. The default is 2500."),
        (["tms_40_10", "steps=5,6"], "'steps=5,6' has no value that can be read."),
        (["tms_40_10", "penalty=l2"], "penalty='l2': must be 'smooth_l0' or 'lp'."),
        (["tms_40_10", "out=a.npz"], "out=a.npz: decompose writes .safetensors."),
        (["tms_40_10", "sites=[linear3]"], "Superposition has no module 'linear3'. Did you mean: linear"),
        (["tms_40_10", "tms_5_2"], "decompose takes one recipe."),
        (["subject=planted", "batch=planted"], "subject planted-0 has no torch module, so it has no matrices."),
    ],
)
def test_what_cannot_be_decomposed_is_one_sentence(
    words: list[str], why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["decompose", *words]) == 2
    assert why in capsys.readouterr().err
    assert not list(tmp_path.glob("*.safetensors*"))
