"""Loading: the model, the description of the subject, and every failure that can occur offline."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import models as hf

from harness.engine import files
from harness.engine.files import ModelFiles
from harness.engine.loading import _label, load_model
from harness.util.errors import HarnessError


@pytest.fixture
def pickled(saved) -> Path:
    """The same model with its weights in a pickle."""
    from safetensors.torch import load_file

    torch.save(load_file(saved / "model.safetensors"), saved / "pytorch_model.bin")
    (saved / "model.safetensors").unlink()
    return saved


def refusal(**parameters) -> str:
    """The message and the fix, as `harness` prints them."""
    with pytest.raises(HarnessError) as caught:
        load_model(**parameters)
    assert caught.value.fix, "every refusal says what to do"
    return str(caught.value)


def test_a_saved_model_gives_the_results_of_the_model(saved, architectures, ragged_batch, silence, every_logit):
    subject = load_model(str(saved))
    ours = subject.evaluate(ragged_batch, [()], silence, every_logit)[:, 0, 0]
    with torch.no_grad():
        expected = architectures["llama_gqa"].eager(torch.from_numpy(ragged_batch.tokens[:1])).logits[0, 15]
    np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_a_subject_describes_itself(saved):
    subject = load_model(str(saved), device="cpu")
    weights = subject.about.pop("weights")
    assert subject.about == {
        "architecture": "LlamaForCausalLM",
        "path": str(saved),
        "revision": "",
        "shares": ["trunk", "inside", "tail", "past"],
        "dtype": "float32",
        "device": "cpu",
        "parameters": sum(p.numel() for p in subject.model.parameters()),
        "layers": 4,
        "heads": 16,
    }
    assert subject.label == "llama-mini"
    assert (subject.reads.vocab_size, subject.reads.context) == (48, 64)
    assert weights == load_model(str(saved)).about["weights"]
    with (saved / "model.safetensors").open("r+b") as file:
        file.seek(-4, 2)
        file.write(np.float32(1.5).tobytes())
    assert weights != load_model(str(saved)).about["weights"]


def test_the_model_has_the_requested_dtype(saved):
    subject = load_model(str(saved), dtype="bfloat16")
    assert next(subject.model.parameters()).dtype == torch.bfloat16


def test_text_is_encoded_without_special_tokens_or_warnings(saved, caplog, capsys):
    encode = load_model(str(saved)).reads.encode
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert encode("the cat sat") == [1, 2, 3]
        assert len(encode("the cat sat on the mat " * 500)) == 3000  # model_max_length is 4
    assert not caplog.records
    assert capsys.readouterr() == ("", "")


def test_a_folder_without_a_tokenizer_encodes_nothing_unless_given_one(saved, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (saved / name).rename(elsewhere / name)
    assert load_model(str(saved)).reads.encode is None
    assert load_model(str(saved), tokenizer=str(elsewhere)).reads.encode("mat") == [5]


def test_loading_prints_nothing(saved):
    """Run in a separate process: output of libraries during their import counts too."""
    code = f"from harness.engine.loading import load_model; load_model({str(saved)!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_a_model_can_be_spread_over_devices(saved):
    pytest.importorskip("accelerate", reason="device_map needs accelerate")
    subject = load_model(str(saved), device_map="cpu")
    assert subject.about["device"] == "cpu"
    assert len(subject.units) == 16


# -- refusals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["./nowhere", "~/nowhere-at-all", "nowhere.gguf", "a/b/c", "weights.safetensors"])
def test_a_path_that_does_not_exist_is_refused(path):
    assert f"subject.path={path}: there is no such file or folder" in refusal(path=path)


def test_a_missing_path_is_refused():
    assert "subject.path is empty" in refusal(path="")


def test_a_folder_without_a_model_is_refused(tmp_path):
    assert "it has no config.json" in refusal(path=str(tmp_path))
    (tmp_path / "model-q4.gguf").touch()
    assert f"subject.path={tmp_path / 'model-q4.gguf'}" in refusal(path=str(tmp_path))


def test_a_folder_without_weights_is_refused(saved):
    (saved / "model.safetensors").unlink()
    assert "no weights" in refusal(path=str(saved))


def test_a_file_inside_the_folder_is_refused(saved):
    assert f"Give the folder: subject.path={saved}" in refusal(path=str(saved / "model.safetensors"))


def test_pickles_are_loaded_only_when_requested(pickled):
    assert "subject.allow_pickle=true" in refusal(path=str(pickled))
    assert len(load_model(str(pickled), allow_pickle=True).units) == 16


def test_weights_that_do_not_fill_the_model_are_refused(saved):
    config = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 5}))
    message = refusal(path=str(saved))
    assert "9 weights (model.layers.4." in message
    assert "of LlamaForCausalLM are missing or misshapen" in message
    (saved / "config.json").write_text(json.dumps({**config, "intermediate_size": 40}))
    assert "misshapen" in refusal(path=str(saved)) or "cannot load it" in refusal(path=str(saved))


def test_truncated_weights_are_refused(saved):
    whole = (saved / "model.safetensors").read_bytes()
    (saved / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    assert "transformers cannot load it (SafetensorError)" in refusal(path=str(saved))


def test_a_model_that_is_not_a_language_model_is_refused(tmp_path):
    config = hf.T5Config(vocab_size=48, d_model=16, d_ff=16, d_kv=8, num_layers=1, num_heads=2)
    hf.T5ForConditionalGeneration(config).save_pretrained(tmp_path / "t5")
    assert "a t5 is not a causal language model" in refusal(path=str(tmp_path / "t5"))


def test_a_model_type_unknown_to_transformers_is_refused(saved):
    (saved / "config.json").write_text(json.dumps({"model_type": "sparkling_water"}))
    assert "sparkling_water" in refusal(path=str(saved))


def test_code_that_comes_with_a_model_is_not_run(saved):
    config = json.loads((saved / "config.json").read_text())
    auto_map = {"AutoConfig": "mine.Config", "AutoModelForCausalLM": "mine.Model"}
    (saved / "config.json").write_text(json.dumps({**config, "model_type": "mine", "auto_map": auto_map}))
    (saved / "mine.py").write_text("raise SystemExit('it ran')")
    assert "cannot load it" in refusal(path=str(saved))


def test_a_missing_device_is_refused(saved):
    assert "Devices: auto, cpu, cuda" in refusal(path=str(saved), device="gpu")
    beyond = f"cuda:{torch.cuda.device_count()}"
    assert f"subject.device={beyond}: this machine has" in refusal(path=str(saved), device=beyond)


@pytest.mark.parametrize(
    ("path", "device_map", "package"), [("model.gguf", None, "gguf"), ("folder", "auto", "accelerate")]
)
def test_a_missing_package_is_named(tmp_path, saved, monkeypatch, path, device_map, package):
    (tmp_path / "model.gguf").touch()
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else there(name))
    given = str(tmp_path / "model.gguf") if path == "model.gguf" else str(saved)
    message = refusal(path=given, device_map=device_map)
    assert f"needs {package}" in message
    assert 'pip install "closure-harness[gguf]"' in message


def test_an_invalid_gguf_file_is_refused(tmp_path):
    pytest.importorskip("gguf")
    (tmp_path / "model.gguf").write_bytes(b"not at all")
    assert "cannot load it" in refusal(path=str(tmp_path / "model.gguf"))


# -- the hub, its answers made up: nothing here asks the network -------------------------------------------------------


@pytest.fixture
def hub_says(monkeypatch):
    """Make every download raise this error, with an empty cache."""
    import huggingface_hub
    from huggingface_hub import errors

    def arrange(name: str) -> None:
        kind = getattr(errors, name)
        error = kind.__new__(kind, "no")  # without the response it would want

        def fail(*args, **kwargs):
            raise error

        monkeypatch.setattr(huggingface_hub, "snapshot_download", fail)
        monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_, **__: None)

    return arrange


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ("LocalEntryNotFoundError", "hf download owner/name --local-dir name"),
        ("RepositoryNotFoundError", "the hub has no such model"),
        ("GatedRepoError", "Accept them at https://huggingface.co/owner/name"),
        ("RevisionNotFoundError", "subject.revision=main: owner/name has no such branch, tag or commit"),
    ],
)
def test_errors_of_the_hub_are_explained(hub_says, error, message):
    hub_says(error)
    assert message in refusal(path="owner/name")


def test_offline_mode_is_named_as_the_reason(hub_says, monkeypatch):
    hub_says("LocalEntryNotFoundError")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "because HF_HUB_OFFLINE is set" in refusal(path="owner/name")


def test_a_model_from_the_hub_records_its_commit(saved, monkeypatch):
    import huggingface_hub

    commit = "0123456789abcdef0123456789abcdef01234567"
    snapshot = saved.parent / "snapshots" / commit
    snapshot.parent.mkdir()
    saved.rename(snapshot)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(snapshot))
    subject = load_model("owner/name", revision="step1000")
    assert subject.label == "name@step1000"
    assert (subject.about["revision"], subject.about["weights"]) == (commit, f"commit:{commit}")


def test_pickles_are_downloaded_only_when_requested(pickled, monkeypatch):
    import huggingface_hub

    requested: list[str] = []

    def download(name, revision, allow_patterns, ignore_patterns):
        requested.extend(allow_patterns)
        return str(pickled)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(HarnessError, match="pickles"):
        files.find("owner/name")
    assert "*.bin" not in requested
    assert files.find("owner/name", allow_pickle=True).weights == [pickled / "pytorch_model.bin"]
    assert "*.bin" in requested


@pytest.mark.parametrize(
    ("folder", "gguf", "label"),
    [
        ("/a/pythia-14m", None, "pythia-14m"),
        ("/a/run3/checkpoint-100", None, "run3/checkpoint-100"),
        ("/a/run3/final", None, "run3/final"),
        ("/a/run/final/checkpoint-10", None, "run/final/checkpoint-10"),
        ("/a/run3/global_step100", None, "run3/global_step100"),
        ("/a/run3/..", None, "a"),
        ("/a/run3/.", None, "run3"),
        ("/a/llama", "model.gguf", "llama/model"),
        ("/a/llama", "llama-q4.gguf", "llama-q4"),
        ("/", None, "/"),
    ],
)
def test_a_model_in_a_folder_of_a_common_name_is_called_by_the_folder_above_too(
    folder: str, gguf: str | None, label: str
) -> None:
    assert _label(folder, "main", ModelFiles(Path(folder), gguf)) == label


# -- weights and tokenizers that are not those of the model ------------------------------------------------------------


def rewritten(folder: Path, change) -> None:
    """Change the weights of a saved model by name."""
    from safetensors.torch import load_file, save_file

    file = folder / "model.safetensors"
    weights = load_file(file)
    change(weights)
    save_file(weights, file, {"format": "pt"})


@pytest.mark.parametrize(
    "name", ["model.layers.0.self_attn.q_proj.lora_A.weight", "base_model.model.adapter.weight", "vera_lambda_d.x"]
)
def test_weights_of_an_adapter_in_the_checkpoint_are_refused(saved, name):
    rewritten(saved, lambda weights: weights.update({name: torch.ones(2, 2)}))
    message = refusal(path=str(saved))
    assert f"1 weight ({name}) belong to an adapter, which LlamaForCausalLM would ignore" in message
    assert "merge_and_unload" in message


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_an_adapter_beside_the_weights_is_refused(saved, name):
    (saved / name).write_bytes(b"{}")
    assert f"it has an adapter ({name})" in refusal(path=str(saved))


def test_other_weights_that_the_model_does_not_use_are_named_in_the_record(saved):
    names = [f"mtp.{i}.weight" for i in range(4)]
    rewritten(saved, lambda weights: weights.update({name: torch.ones(1) for name in names}))
    unused = load_model(str(saved)).about["unused_weights"]
    assert unused == "4 weights (mtp.0.weight, mtp.1.weight, mtp.2.weight ...)"


@pytest.mark.parametrize(("value", "kind"), [(float("nan"), "NaN"), (float("-inf"), "infinity")])
@pytest.mark.parametrize(
    "name", ["model.embed_tokens.weight", "model.layers.2.mlp.up_proj.weight", "model.norm.weight"]
)
def test_a_weight_that_is_not_finite_is_named(saved, name, value, kind):
    def spoil(weights):
        weights[name][5] = value
        weights[name][7] = value

    rewritten(saved, spoil)
    message = refusal(path=str(saved))
    assert f"its weights are not finite, because {name} holds {kind} in row 5, the first of 2" in message
    assert "dtype" not in message, "a model in float32 is not told to use float32"


def test_weights_too_large_for_half_precision_are_told_from_damaged_ones(saved):
    def enlarge(weights):
        weights["model.norm.weight"][3] = 1e6

    rewritten(saved, enlarge)
    assert load_model(str(saved)).units
    message = refusal(path=str(saved), dtype="float16")
    assert "model.norm.weight holds infinity in row 3" in message
    assert "subject.dtype=float32" in message


def test_a_model_in_memory_with_a_nan_is_not_called_a_model_that_is_not_causal(architectures):
    from harness.engine.in_memory import subject_of

    model = architectures["llama_gqa"].build()
    with torch.no_grad():
        model.model.embed_tokens.weight[5] = torch.nan
    with pytest.raises(HarnessError, match=r"predicts NaN, because model.embed_tokens.weight holds NaN in row 5\."):
        subject_of(model)


def spoiled_tokenizer(folder: Path) -> str:
    """A tokenizer that needs code of its own, which must not run."""
    config = {"tokenizer_class": "MineTokenizer", "auto_map": {"AutoTokenizer": ["mine.MineTokenizer", None]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").unlink()
    (folder / "mine.py").write_text("raise SystemExit('it ran')")
    return str(folder)


def test_a_tokenizer_that_is_not_needed_is_not_loaded(saved):
    from harness.registry.config import registry

    subject = load_model(spoiled_tokenizer(saved))
    batch = registry().get("batch", "random_repeat").build({"n": 2})(subject.reads)
    assert batch.notes["bos"] == "none (the tokenizer cannot be loaded)"
    assert subject.reads.decode([1, 2]) == "1 2"
    assert batch.shown(0, subject.reads)


def test_a_tokenizer_that_is_needed_and_cannot_be_loaded_is_blamed(saved):
    subject = load_model(spoiled_tokenizer(saved))
    for use in (lambda: subject.reads.encode("the cat"), lambda: subject.reads.bos(True)):
        with pytest.raises(HarnessError, match="its tokenizer cannot be loaded") as caught:
            use()
        assert "batch=synthetic_induction" in caught.value.fix
