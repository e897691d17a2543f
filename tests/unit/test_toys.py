"""The toy models: what they compute, and that none is loaded that does not compute every feature."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from harness_plugins.subjects.toy.kinds import RECIPES
from harness_plugins.subjects.toy.train import Quality
from safetensors.torch import load_file, save_file

from harness import HarnessError, method
from harness.decomposition.targets import Superposition

WEIGHTS = Path(__file__).parents[2] / "plugins" / "subjects" / "toy" / "weights"
SHIPPED = [file.stem.rpartition("-") for file in sorted(WEIGHTS.glob("*.safetensors"))]


@pytest.mark.parametrize(("kind", "seed"), [(kind, int(seed)) for kind, _, seed in SHIPPED])
def test_shipped_toys_are_of_enough_quality(kind: str, seed: int) -> None:
    subject = method("subject", "toy", kind=kind, seed=seed)()
    quality = subject.about["quality"]
    assert quality["loss"] < 0.6 * quality["idle"]
    neurons = sum(subject.model.get_submodule(site).in_features for site in subject.units.sites)
    assert len(subject.units) == neurons


def test_every_kind_of_the_papers_is_there() -> None:
    shapes = {kind: (recipe.sizes["features"], recipe.present) for kind, recipe in RECIPES.items()}
    assert shapes["tms_5_2_id"] == (5, 0.05)
    assert shapes["tms_40_10"] == (40, 0.05)
    assert shapes["residual_2x25"] == (100, 0.01)
    assert shapes["residual_3x17"] == (102, 0.01)
    assert {"tms_5_2_id", "tms_20_10", "tms_40_10", "residual_2x25"} <= {kind for kind, _, _ in SHIPPED}


def test_the_quality_of_a_perfect_toy() -> None:
    toy = Superposition(20, 10)
    with torch.no_grad():
        toy.linear1.weight.copy_(torch.cat([torch.eye(10), -torch.eye(10)], dim=1))
        toy.linear2.bias.zero_()
    toy.tie()
    quality = Quality.of(toy, RECIPES["tms_20_10"])  # right unless opposite features are both present
    assert (quality.own, quality.other) == (1, 0)
    # Opposite features u > v: the outputs u - v and 0 are wrong by v each; E[v^2] of the smaller of two is 1/6.
    assert quality.loss == pytest.approx(0.05**2 / 6, rel=0.15)
    assert quality.idle == pytest.approx(0.05 / 3, rel=0.05)


def test_a_toy_that_drops_a_feature_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from harness_plugins.subjects.toy import subject

    weights = load_file(WEIGHTS / "tms_5_2-0.safetensors")
    weights["linear1.weight"][:, 2] = 0
    weights["linear2.weight"][2] = 0
    save_file(weights, tmp_path / "tms_5_2-0.safetensors")
    monkeypatch.setattr(subject, "WEIGHTS", tmp_path)
    with pytest.raises(HarnessError, match=r"toy tms_5_2, seed 0: it computes 0\.00 of a feature"):
        method("subject", "toy", kind="tms_5_2")()


def test_a_seed_that_was_not_trained_is_named_with_those_that_were() -> None:
    with pytest.raises(HarnessError, match=r"tms_40_10 seed '9' is not known(.|\n)*0, 1, 2(.|\n)*toy\.train tms_40_10"):
        method("subject", "toy", kind="tms_40_10", seed=9)()


def test_the_decoder_of_a_shipped_toy_is_the_transpose_of_its_encoder() -> None:
    toy = method("subject", "toy", kind="tms_40_10").load()
    assert isinstance(toy, Superposition)
    torch.testing.assert_close(toy.linear2.weight, toy.linear1.weight.T, rtol=0, atol=0)
