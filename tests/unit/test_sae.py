"""Latents of dictionaries: the files of several libraries, and ablation with the error of reconstruction kept."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from harness_plugins.subjects._dictionary.files import read_dictionary
from harness_plugins.subjects._dictionary.latents import Dictionary, Latents
from harness_plugins.subjects._dictionary.train import LAYER, activations, train
from harness_plugins.subjects.sae import SHIPPED
from safetensors.torch import save_file
from torch import Tensor, nn

from harness import HarnessError, HookedSubject, Reader, Rows, Source, Tokens, Width, method
from harness.engine.shapes import of_config
from harness.notebook.memory import subject_digest

WIDTH, LATENTS = 6, 10


def weights(seed: int = 0) -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    shapes = {"W_enc": (WIDTH, LATENTS), "b_enc": (LATENTS,), "W_dec": (LATENTS, WIDTH), "b_dec": (WIDTH,)}
    return {name: torch.randn(shape, generator=rng) for name, shape in shapes.items()}


def read(
    folder: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None, **given: Any
) -> Dictionary:
    save_file({name: value.contiguous() for name, value in tensors.items()}, folder / "d.safetensors", metadata)
    asked = {"activation": "auto", "k": None, "centred": None, "transcoder": False, **given}
    return read_dictionary(str(folder / "d.safetensors"), **asked)[0]


X = torch.randn((7, WIDTH), generator=torch.Generator().manual_seed(5))

# ----------------------------------------------------------------------------------------------------------------------
# Encoding, by the definition of each library
# ----------------------------------------------------------------------------------------------------------------------


def test_the_names_and_orientations_of_libraries_are_read(tmp_path: Path) -> None:
    w = weights()
    plain = (X @ w["W_enc"] + w["b_enc"]).relu()
    centred = ((X - w["b_dec"]) @ w["W_enc"] + w["b_enc"]).relu()
    linear = {"encoder.weight": w["W_enc"].T, "encoder.bias": w["b_enc"]}
    files: dict[str, tuple[dict[str, Tensor], Tensor]] = {
        "SAELens, Gemma Scope": (w, plain),
        "circuit-tracer": ({**w, "W_enc": w["W_enc"].T}, plain),
        "dictionary_learning": ({**linear, "decoder.weight": w["W_dec"].T, "bias": w["b_dec"]}, centred),
        "dictionary_learning, new": ({**linear, "decoder.weight": w["W_dec"].T, "decoder.bias": w["b_dec"]}, plain),
        "sparsify": ({**linear, "W_dec": w["W_dec"], "b_dec": w["b_dec"]}, centred),
    }
    for name, (tensors, expected) in files.items():
        dictionary = read(tmp_path, tensors)
        torch.testing.assert_close(dictionary.encode(X), expected, msg=name)
        torch.testing.assert_close(dictionary.decode(expected, X), expected @ w["W_dec"] + w["b_dec"], msg=name)


def test_a_square_encoder_is_read_as_its_name_says(tmp_path: Path) -> None:
    rng = torch.Generator().manual_seed(1)
    square, bias, zero = torch.randn((6, 6), generator=rng), torch.randn(6, generator=rng), torch.zeros(6)
    named = read(tmp_path, {"W_enc": square, "b_enc": bias, "W_dec": square.T, "b_dec": zero})
    linear = {"encoder.weight": square.T, "encoder.bias": bias, "decoder.weight": square, "decoder.bias": zero}
    torch.testing.assert_close(named.encode(X), (X @ square + bias).relu())
    torch.testing.assert_close(read(tmp_path, linear).encode(X), named.encode(X))
    torch.testing.assert_close(read(tmp_path, linear).decoder, named.decoder)


def test_activation_functions_follow_their_definitions(tmp_path: Path) -> None:
    w = weights()
    pre = X @ w["W_enc"] + w["b_enc"]
    jump = read(tmp_path, {**w, "threshold": torch.full((LATENTS,), 0.8)})
    torch.testing.assert_close(jump.encode(X), pre * (pre > 0.8))
    scalar = read(tmp_path, {**w, "threshold": torch.tensor(0.8)})
    torch.testing.assert_close(scalar.encode(X), jump.encode(X))
    for top in (
        read(tmp_path, {**w, "k": torch.tensor(3)}),
        read(tmp_path, w, {"k": "3"}),
        read(tmp_path, w, k=3),
    ):
        values = top.encode(X)
        assert top.activation == "top 3"
        assert ((values > 0).sum(dim=1) <= 3).all()
        torch.testing.assert_close(values.sum(dim=1), pre.relu().sort(dim=1).values[:, -3:].sum(dim=1))
    assert read(tmp_path, {**w, "threshold": torch.ones(LATENTS)}, activation="relu").activation == "relu"


@pytest.mark.parametrize("extra", [{}, {"threshold": torch.full((LATENTS,), 0.8)}, {"k": torch.tensor(3)}])
def test_chosen_latents_have_the_values_that_they_have_among_all(extra: dict[str, Tensor], tmp_path: Path) -> None:
    dictionary = read(tmp_path, {**weights(), **extra})
    chosen = torch.tensor([8, 1, 5])
    torch.testing.assert_close(dictionary.encode(X, chosen), dictionary.encode(X)[:, chosen])


def test_the_configuration_beside_the_file_says_whether_the_bias_is_subtracted(tmp_path: Path) -> None:
    w = weights()
    centred = ((X - w["b_dec"]) @ w["W_enc"] + w["b_enc"]).relu()
    (tmp_path / "cfg.json").write_text(json.dumps({"apply_b_dec_to_input": True, "normalize_activations": "none"}))
    torch.testing.assert_close(read(tmp_path, w).encode(X), centred)
    torch.testing.assert_close(read(tmp_path, w, centred=False).encode(X), (X @ w["W_enc"] + w["b_enc"]).relu())


def test_a_skip_connection_is_part_of_the_reconstruction(tmp_path: Path) -> None:
    w, skip = weights(), torch.eye(WIDTH) * 2
    dictionary = read(tmp_path, {**w, "W_skip": skip}, transcoder=True)
    latents = dictionary.encode(X)
    torch.testing.assert_close(dictionary.decode(latents, X), latents @ w["W_dec"] + w["b_dec"] + 2 * X)


@pytest.mark.parametrize(
    ("change", "metadata", "given", "says"),
    [
        ({"W_enc": None}, None, {}, "it has no W_enc or w_enc or encoder.weight; its arrays: W_dec, b_dec, b_enc"),
        ({"W_enc": torch.zeros(4, 4)}, None, {}, r"W_enc has the shape \[4, 4\], and there are 10 latents"),
        ({"W_dec": torch.zeros(10, 5)}, None, {}, "its decoder writes 5 numbers, and its bias has 6"),
        ({"b_enc": torch.zeros(2, 5)}, None, {}, r"b_enc has the shape \[2, 5\], not one number each"),
        ({"b_enc": torch.full((10,), torch.nan)}, None, {}, "b_enc contains NaN or infinity"),
        ({"r_mag": torch.zeros(10)}, None, {}, "it is gated .r_mag.; gated dictionaries are not read"),
        (
            {},
            {"normalize_activations": '"layer_norm"'},
            {},
            "normalize_activations='layer_norm', which is not computed",
        ),
        ({}, None, {"activation": "topk"}, "TopK needs k between 1 and 10"),
        ({}, None, {"k": 11}, "TopK needs k between 1 and 10"),
        ({}, None, {"activation": "jumprelu"}, "JumpReLU needs an array 'threshold'"),
        ({"W_enc": torch.zeros(7, 10)}, None, {"centred": True}, "its input and output differ in width"),
    ],
)
def test_a_dictionary_that_cannot_be_used_is_refused(
    change: dict[str, Tensor | None], metadata: dict[str, str] | None, given: dict[str, Any], says: str, tmp_path: Path
) -> None:
    tensors = {name: value for name, value in {**weights(), **change}.items() if value is not None}
    with pytest.raises(HarnessError, match=says):
        read(tmp_path, tensors, metadata, **given)


# ----------------------------------------------------------------------------------------------------------------------
# Ablation
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encodes", ["output", "input"])
def test_an_ablated_latent_is_taken_out_and_the_error_stays(encodes: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 3))
    dictionary = read(tmp_path, weights())
    labels = [f"F{i}" for i in range(LATENTS)]
    site = Latents("latents", 0, labels, model[0], family="latent", dictionary=dictionary, encodes=encodes)  # type: ignore[arg-type]
    subject = HookedSubject(model, [site], Width(WIDTH, 3), "linear")
    batch = method("batch", "vectors", n=20)(Width(WIDTH, 3))
    groups = [(), (2,), (2, 7, 9)]
    found = subject.evaluate(batch, groups, method("intervention", "zero"), [method("metric", "target_logit")])[0]
    with torch.no_grad():
        x = torch.from_numpy(batch.inputs)
        y = model[0](x)
        latents = dictionary.encode(y if encodes == "output" else x)
        for values, group in zip(found, groups, strict=True):
            removed = latents[:, group] @ dictionary.decoder[list(group)]
            logits = model[1](y - removed).numpy()
            np.testing.assert_allclose(values, logits[np.arange(20), batch.target], atol=1e-5)


class Look(Reader):
    """Every latent."""

    source: ClassVar[Source] = "activation"

    def read(self, rows: Rows) -> np.ndarray:
        return rows.values[:, :, 0]


@pytest.fixture(scope="module")
def shipped() -> HookedSubject:
    subject: HookedSubject = method("subject", "sae", device="cpu")()
    return subject


@pytest.fixture(scope="module")
def induction(shipped: HookedSubject) -> Tokens:
    batch: Tokens = method("batch", "synthetic_induction", n=24)(shipped.reads)
    return batch


def test_the_shipped_dictionary_fits_tiny_after_layer_1_and_no_other_layer(shipped: HookedSubject) -> None:
    assert SHIPPED.stat().st_size < 300_000
    assert len(shipped.units) == 512
    assert shipped.units.labels[123] == "L1F123"
    assert {unit.family for unit in shipped.units.units} == {"latent"}
    fit = shipped.about["dictionary"]
    assert fit["explained_variance"] > 0.8
    assert fit["active_per_token"] < 40
    assert fit["training_dead_latents"] < 100
    other = method("subject", "sae", device="cpu", site=3)()
    assert other.about["dictionary"]["explained_variance"] < fit["explained_variance"] - 0.2


@pytest.mark.slow
def test_training_again_gives_a_dictionary_that_explains_as_much(shipped: HookedSubject) -> None:
    states = activations(LAYER, seed=1)
    trained, held_out = train(states[4096:], seed=1), states[:4096]
    values = held_out @ trained["W_enc"] + trained["b_enc"]
    values = values * (values > trained["threshold"])
    error = held_out - values @ trained["W_dec"] - trained["b_dec"]
    explained = 1 - float(error.square().sum() / (held_out - held_out.mean(dim=0)).square().sum())
    assert explained == pytest.approx(shipped.about["dictionary"]["training_explained_variance"], abs=0.03)


def test_latents_at_the_query_are_those_of_the_residual_stream(shipped: HookedSubject, induction: Tokens) -> None:
    found = shipped.record(induction, {"look": Look()}).readings["look"]
    with torch.no_grad():
        states = shipped.model(torch.from_numpy(induction.tokens), output_hidden_states=True).hidden_states[2]
    x = states[torch.arange(len(induction)), torch.from_numpy(induction.query)]
    expected = shipped.sites[0].dictionary.encode(x).numpy()  # type: ignore[attr-defined]
    np.testing.assert_allclose(found, expected, atol=1e-3)
    assert (found > 0).any()


@pytest.mark.parametrize("positions", ["all", "query"])
def test_latents_of_tiny_are_ablated_as_by_hand(positions: str, shipped: HookedSubject, induction: Tokens) -> None:
    strongest = shipped.record(induction, {"look": Look()}).readings["look"].mean(axis=0).argsort()[-5:]
    group = tuple(sorted(strongest.tolist()))
    zero = method("intervention", "zero", positions=positions)
    found = shipped.evaluate(induction, [(), group], zero, [method("metric", "target_logit")])[0]
    dictionary = shipped.sites[0].dictionary  # type: ignore[attr-defined]
    rows, query = torch.arange(len(induction)), torch.from_numpy(induction.query)

    def remove(_: nn.Module, __: Any, output: Any) -> Any:
        stream = output[0] if isinstance(output, tuple) else output
        removed = dictionary.encode(stream)[..., list(group)] @ dictionary.decoder[list(group)]
        if positions == "query":
            removed *= (torch.arange(stream.shape[1]) == query[:, None])[..., None]
        return (stream - removed, *output[1:]) if isinstance(output, tuple) else stream - removed

    def target_logits() -> np.ndarray:
        with torch.no_grad():
            logits = shipped.model(torch.from_numpy(induction.tokens)).logits[rows, query]
        return logits[rows, torch.from_numpy(induction.target)].numpy()

    assert shipped.model is not None
    baseline = target_logits()
    handle = shipped.model.get_submodule("model.layers.1").register_forward_hook(remove)
    try:
        ablated = target_logits()
    finally:
        handle.remove()
    np.testing.assert_allclose(found, [baseline, ablated], atol=1e-3)
    assert np.abs(ablated - baseline).max() > 0.1


def test_heads_and_latents_can_be_units_of_one_subject() -> None:
    both = method("subject", "sae", device="cpu", also=["heads"])()
    assert both.units.sites == ("L0.attn", "L1.attn", "L1.latents", "L2.attn", "L3.attn")
    assert both.units.runs == method("subject", "sae", also=["heads"]).runs(of_config(both.model.config.to_dict()))  # type: ignore[union-attr]
    assert len(both.units) == 32 + 512


def test_a_dictionary_of_another_width_is_refused(tmp_path: Path) -> None:
    save_file(weights(), tmp_path / "d.safetensors")
    given = {"device": "cpu", "dictionary": str(tmp_path / "d.safetensors")}
    with pytest.raises(HarnessError, match="it reads 6 numbers and writes 6; the module has 128 and 128"):
        method("subject", "sae", **given)()
    with pytest.raises(HarnessError, match=r"subject\.site=4: the model has no such layer") as caught:
        method("subject", "sae", device="cpu", site=4)()
    assert "Its layers are 0 to 3." in caught.value.fix
    with pytest.raises(HarnessError, match=r"has no module 'model\.layer\.1'"):
        method("subject", "sae", device="cpu", site="model.layer.1")()
    with pytest.raises(HarnessError, match=r"subject\.dictionary=gone\.npz: the file does not exist"):
        method("subject", "sae", device="cpu", dictionary="gone.npz")()


def test_a_transcoder_reads_the_input_of_the_mlp_and_writes_to_its_output(tmp_path: Path) -> None:
    rng = torch.Generator().manual_seed(0)
    shapes = {"W_enc": (128, 20), "b_enc": (20,), "W_dec": (20, 128), "b_dec": (128,)}
    save_file({name: torch.randn(shape, generator=rng) for name, shape in shapes.items()}, tmp_path / "t.safetensors")
    given = {"device": "cpu", "dictionary": str(tmp_path / "t.safetensors"), "encodes": "input", "site": 2}
    subject = method("subject", "sae", **given)()
    assert subject.about["site"] == "model.layers.2.mlp"
    batch = method("batch", "synthetic_induction", n=4)(subject.reads)
    found = subject.record(batch, {"look": Look()}).readings["look"]
    seen = []
    mlp = subject.model.get_submodule("model.layers.2.mlp")
    handle = mlp.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.no_grad():
        subject.model(torch.from_numpy(batch.tokens))
    handle.remove()
    x = seen[0][torch.arange(4), torch.from_numpy(batch.query)]
    np.testing.assert_allclose(found, subject.sites[0].dictionary.encode(x).numpy(), atol=1e-4)


def test_subjects_in_memory_with_different_dictionaries_are_different_subjects(tmp_path: Path) -> None:
    model, labels = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 3)), [f"F{i}" for i in range(LATENTS)]
    first, again, other = (
        HookedSubject(
            model,
            [Latents("latents", 0, labels, model[0], dictionary=read(tmp_path, weights(seed)))],
            Width(WIDTH, 3),
            "linear",
        )
        for seed in (0, 0, 1)
    )
    assert subject_digest(first) == subject_digest(again) != subject_digest(other)


def test_the_content_of_the_dictionary_is_its_identity(tmp_path: Path) -> None:
    path = tmp_path / "d.safetensors"
    save_file(weights(), path)
    before = method("subject", "sae", dictionary=str(path)).fingerprint()
    save_file(weights(1), path)
    assert method("subject", "sae", dictionary=str(path)).fingerprint() != before
