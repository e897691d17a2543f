"""Decompositions: the oracle is exact, files bring back what was saved, and other models are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from harness import HarnessError, rng_for
from harness.data.features import SparseFeatures
from harness.decomposition.artefact import Decomposition, Subcomponents
from harness.decomposition.importance import Gates, SiteMlp
from harness.decomposition.oracle import SHARED, oracle
from harness.decomposition.targets import ResidualMlp, Superposition, Toy, weights_digest


def toy(kind: str) -> Toy:
    torch.manual_seed(0)
    if kind == "superposition":
        return Superposition(5, 2, identities=1)
    return ResidualMlp(6, 8, blocks=2, neurons=3)


@pytest.mark.parametrize("kind", ["superposition", "residual_mlp"])
def test_an_oracle_adds_up_to_the_matrices(kind: str) -> None:
    target = toy(kind)
    found = oracle(target, "a toy")
    found.check(target)
    embedding = getattr(target, "embedding", None)
    for path, site in found.sites.items():
        weight = target.get_submodule(path).weight
        if path.endswith("mlp_in"):  # nothing but embedded features arrives at the first block
            weight, made = weight @ embedding.T, site.weight @ embedding.T
        else:
            made = site.weight
        torch.testing.assert_close(made, weight)


def test_the_mechanisms_of_an_oracle_are_its_features() -> None:
    found = oracle(toy("superposition"), "a toy")
    assert found.truth["linear1"] == [f"feature {i}" for i in range(5)]
    assert sorted(found.truth["linear2"]) == found.truth["linear1"] != found.truth["linear2"]
    assert found.truth["hidden.0"] == [SHARED, SHARED]
    examples = torch.tensor([[0.5, 0, 0, 0, 0.25]])
    importances = found.importances({"linear1": examples, "hidden.0": torch.zeros(1, 2), "linear2": torch.zeros(1, 2)},
                                    examples)  # fmt: skip
    expected = [0.5 if c == "feature 0" else 0.25 if c == "feature 4" else 0 for c in found.truth["linear2"]]
    torch.testing.assert_close(importances["linear2"], torch.tensor([expected]))
    torch.testing.assert_close(importances["hidden.0"], torch.ones(1, 2))


def test_gates_are_one_small_mlp_per_subcomponent() -> None:
    torch.manual_seed(0)
    gates = Gates(3, 4)
    inner = torch.randn(7, 3)
    found = gates(torch.zeros(7, 2), inner)
    for c in range(3):
        first, second = torch.nn.Linear(1, 4), torch.nn.Linear(4, 1)
        with torch.no_grad():
            first.weight.copy_(gates.w_in[c][:, None])
            first.bias.copy_(gates.b_in[c])
            second.weight.copy_(gates.w_out[c][None])
            second.bias.copy_(gates.b_out[c][None])
        mlp = torch.nn.Sequential(first, torch.nn.GELU(), second)
        torch.testing.assert_close(found[:, c], mlp(inner[:, [c]])[:, 0])


def trained(target: Toy) -> Decomposition:
    """What training writes: both kinds of importance functions."""
    torch.manual_seed(1)
    sites = {
        "linear1": Subcomponents(torch.randn(4, 5), torch.randn(4, 2), Gates(4, 3)),
        "linear2": Subcomponents(torch.randn(6, 2), torch.randn(6, 5), SiteMlp(6, 2, 7)),
    }
    return Decomposition(sites, "a toy", weights_digest(target), target, True, {"steps": 3}, {"l0": 1.5})


def test_a_file_brings_back_what_was_saved(tmp_path: Path) -> None:
    target = toy("superposition")
    saved = trained(target)
    saved.save(tmp_path / "a.safetensors")
    found = Decomposition.load(tmp_path / "a.safetensors")
    assert (found.label, found.tied, found.settings, found.fidelity) == ("a toy", True, {"steps": 3}, {"l0": 1.5})
    inputs = {"linear1": torch.rand(9, 5), "linear2": torch.rand(9, 2)}
    for path, importances in saved.importances(inputs).items():
        torch.testing.assert_close(found.importances(inputs)[path], importances.detach(), rtol=0, atol=0)
        assert 0 <= importances.min() < importances.max() <= 1
    assert found.target is not None
    torch.testing.assert_close(found.target(inputs["linear1"]), target(inputs["linear1"]))


@pytest.mark.parametrize("kind", ["superposition", "residual_mlp"])
def test_oracles_have_files_as_well(kind: str, tmp_path: Path) -> None:
    saved = oracle(toy(kind), "a toy")
    saved.save(tmp_path / "a.safetensors")
    found = Decomposition.load(tmp_path / "a.safetensors")
    assert found.truth == saved.truth
    assert found.target_digest == saved.target_digest


def test_a_decomposition_of_another_model_is_refused() -> None:
    found = oracle(toy("superposition"), "a toy")
    with pytest.raises(HarnessError, match="the decomposition is one of a toy with weights"):
        found.check(Superposition(5, 2, identities=1))


def broken(file: Path, change: str) -> None:
    with safe_open(file, framework="pt") as opened:
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  # not a mapping
        header = opened.metadata()
    if change == "another file":
        header = {}
    elif change == "a missing part":
        del tensors["site/linear1/v"]
    elif change == "NaN":
        tensors["site/linear1/v"][0, 0] = torch.nan
    elif change == "other weights":
        tensors["target/linear2.bias"] += 1
    elif change == "huge sizes":
        header["decomposition"] = header["decomposition"].replace('"features": 5', '"features": 999999999')
    else:
        tensors["site/linear1/u"] = tensors["site/linear1/u"][:3].contiguous()
    save_file(tensors, file, metadata=header)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("another file", "does not say what it decomposes"),
        ("a missing part", "it is not a decomposition .KeyError"),
        ("NaN", "contains NaN"),
        ("other weights", "this model has weights"),
        ("huge sizes", "sizes do not fit"),
        ("shapes", "V and U have the shapes"),
    ],
)
def test_damaged_files_are_refused(change: str, why: str, tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    trained(toy("superposition")).save(file)
    broken(file, change)
    with pytest.raises(HarnessError, match=why):
        Decomposition.load(file)


def test_sparse_features_are_as_frequent_as_asked() -> None:
    features = SparseFeatures(20, 0.1, synced=((3, 4), (5, 6, 7)))
    drawn = features.draw(rng_for(0, "test"), 20_000)
    present = drawn > 0
    np.testing.assert_allclose(present.mean(axis=0), 0.1, atol=4 * np.sqrt(0.09 / 20_000))  # four standard errors
    assert (present[:, 3] == present[:, 4]).all()
    assert (present[:, 5] == present[:, 7]).all()
    assert (drawn[present[:, 3], 3] != drawn[present[:, 3], 4]).all()
    assert SparseFeatures(3, 0.01, empty=False).draw(rng_for(0, "test"), 500).any(axis=1).all()


@pytest.mark.parametrize(
    "wrong", [{"present": 0.0}, {"low": 1.0}, {"synced": ((0, 1), (1, 2))}, {"synced": ((0, 20),)}]
)
def test_features_that_cannot_be_drawn_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(HarnessError):
        SparseFeatures(20, **wrong)  # type: ignore[arg-type]
