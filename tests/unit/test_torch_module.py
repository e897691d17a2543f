"""Hidden neurons of torch modules: the harness's classifier, and modules of the user's own file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from harness_plugins.subjects._classifier.model import build
from harness_plugins.subjects._classifier.train import accuracy, train
from harness_plugins.subjects.torch_module import SHIPPED
from safetensors.torch import load_model, save_model
from torch import nn

from harness import HarnessError, HookedSubject, Reader, Vectors, Vocabulary, Width, method
from harness.cells.inputs import write_batch
from harness.data.recording import Rows

OWN = """
from torch import nn

class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.unused = nn.Linear(5, 7), nn.Linear(7, 3), nn.Linear(3, 3)

    def forward(self, x):
        return self.second(self.first(x).relu())

def build():
    return Two()

def shared():
    relu = nn.ReLU()
    return nn.Sequential(nn.Linear(5, 5), relu, nn.Linear(5, 5), relu, nn.Linear(5, 2))

def folded():
    return nn.Sequential(nn.Linear(6, 6), nn.Unflatten(1, (2, 3)), nn.ReLU(), nn.Flatten(), nn.Linear(6, 2))

def one():
    return nn.Sequential(nn.Linear(5, 2))

def pooled():
    return nn.Sequential(nn.ReLU())

def number():
    return 3

def broken():
    raise KeyError("lost")
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "own.py").write_text(OWN)
    return tmp_path / "own.py"


def subject(**parameters: Any) -> HookedSubject:
    loaded: HookedSubject = method("subject", "torch_module", device="cpu", **parameters)()
    return loaded


class Look(Reader):
    """Every activation."""

    source = "activation"

    def read(self, rows: Rows) -> np.ndarray:
        return rows.values[:, :, 0]


def shipped() -> nn.Module:
    model = build()
    load_model(model, SHIPPED / "weights.safetensors")
    return model.eval()


def test_units_of_the_classifier_are_the_neurons_after_each_activation_function() -> None:
    classifier = subject()
    assert classifier.reads == Width(12, 4)
    assert len(classifier.units) == 32 + 16
    assert classifier.units.labels[31:33] == ("hidden1:31", "hidden2:0")
    assert classifier.units.sites == ("hidden1", "hidden2")
    assert {unit.family for unit in classifier.units.units} == {"neuron"}


def test_recorded_activations_are_those_of_the_module() -> None:
    classifier = subject()
    batch = method("batch", "vectors", n=50)(Width(12, 4))
    found = classifier.record(batch, {"look": Look()}).readings["look"]
    model = shipped()
    with torch.no_grad():
        first = model[:2](torch.from_numpy(batch.inputs))
        second = model[2:4](first)
    np.testing.assert_allclose(found, torch.cat([first, second], dim=1), atol=1e-6)


def test_zeroed_neurons_have_the_effect_of_zeroed_columns_of_the_next_layer() -> None:
    classifier = subject()
    batch = method("batch", "vectors", n=50)(Width(12, 4))
    groups = [(), (3,), (3, 30, 35)]
    found = classifier.evaluate(batch, groups, method("intervention", "zero"), [method("metric", "logit_difference")])[
        0
    ]
    rows = np.arange(50)
    for values, group in zip(found, groups, strict=True):
        model = shipped()
        with torch.no_grad():
            model.layer2.weight[:, [unit for unit in group if unit < 32]] = 0
            model.output.weight[:, [unit - 32 for unit in group if unit >= 32]] = 0
            outputs = model(torch.from_numpy(batch.inputs)).numpy()
        expected = outputs[rows, batch.target] - outputs[rows, batch.counterfactual.target]
        np.testing.assert_allclose(values, expected, atol=1e-5)


def test_the_classifier_is_right_as_often_as_the_best_possible_one() -> None:
    # The best answer is the class whose inputs have the largest absolute sum: the noise of all inputs is equal.
    batch = method("batch", "vectors", n=4096)(Width(12, 4))
    best = (np.abs(batch.inputs.reshape(-1, 4, 3).sum(axis=2)).argmax(axis=1) == batch.target).mean()
    assert accuracy(shipped()) > best - 0.01
    assert accuracy(build()) < 0.5


def test_training_again_gives_a_classifier_that_is_as_good() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        again = train()
    finally:
        torch.set_num_threads(threads)
    assert abs(accuracy(again) - accuracy(shipped())) < 0.005


def test_a_module_of_the_users_file_has_its_hidden_linear_layers_as_sites(file: Path) -> None:
    own = subject(module=f"{file}:build", sites=["first"])
    assert own.reads == Width(5, 3)
    assert own.units.labels == tuple(f"first:{i}" for i in range(7))
    assert own.label == "own"
    assert own.about["module"] == "own.py:build"
    same = subject(module=str(file), sites=["first"])
    assert same.about["weights"] == own.about["weights"]  # drawn with torch's seed at 0


def test_weights_are_loaded_and_change_the_identity(file: Path, tmp_path: Path) -> None:
    own = subject(module=str(file), sites=["first"])
    with torch.no_grad():
        own.model.first.bias += 1
    save_model(own.model, str(tmp_path / "w.safetensors"))
    loaded = subject(module=str(file), sites=["first"], weights=str(tmp_path / "w.safetensors"))
    torch.testing.assert_close(loaded.model.first.bias, own.model.first.bias)
    assert loaded.about["weights"] != own.about["weights"]
    plain = method("subject", "torch_module", module=str(file))
    weighted = method("subject", "torch_module", module=str(file), weights=str(tmp_path / "w.safetensors"))
    before = plain.fingerprint()
    assert before != weighted.fingerprint()
    file.write_text(OWN + "\n")
    assert plain.fingerprint() != before


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"module": "gone.py:build"}, "there is no file gone.py"),
        ({"module": "{}:nothing"}, "the file has no function 'nothing'"),
        ({"module": "{}:number"}, "number returns int"),
        ({"module": "{}:broken"}, "it fails with KeyError: 'lost'"),
        ({"module": "{}", "sites": ["frist"]}, "Two has no module 'frist'. Did you mean: first?"),
        ({"module": "{}", "sites": ["unused"]}, "site unused does not run in a pass"),
        ({"module": "{}:shared"}, "the module of site 1 runs 2 times in a pass, not once"),
        ({"module": "{}:folded"}, r"site 2 gives \[2, 2, 3\], not \[rows, n\]"),
        ({"module": "{}:one"}, "Sequential has no activation function and no hidden linear layer"),
        ({"module": "{}:pooled"}, "Sequential has no linear layer, so its inputs are not known"),
        ({"module": "{}", "inputs": 4, "sites": ["first"]}, "Two does not take vectors of 4 numbers"),
        ({"weights": "gone.safetensors"}, r"subject\.weights=gone\.safetensors: the file does not exist"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(parameters: dict[str, Any], says: str, file: Path) -> None:
    given = {key: value.format(file) if isinstance(value, str) else value for key, value in parameters.items()}
    with pytest.raises(HarnessError, match=says):
        subject(**given)


def test_weights_of_another_module_are_refused(file: Path, tmp_path: Path) -> None:
    save_model(shipped(), str(tmp_path / "w.safetensors"))
    with pytest.raises(HarnessError, match=r"w\.safetensors: they do not fit build\(\) of own\.py"):
        subject(module=str(file), weights=str(tmp_path / "w.safetensors"))
    (tmp_path / "w.safetensors").write_bytes(b"no")
    with pytest.raises(HarnessError, match="they do not fit"):
        subject(module=str(file), weights=str(tmp_path / "w.safetensors"))


def test_vectors_are_refused_where_they_do_not_fit_and_tokens_everywhere() -> None:
    classifier = subject()
    ones = np.ones((4, 12), dtype=np.float32)
    zero, loss = method("intervention", "zero"), [method("metric", "loss")]
    for inputs, target, says in (
        (ones[:, :5], np.zeros(4, dtype=np.int64), "inputs has 5 numbers per example; the subject has 12"),
        (ones, np.full(4, 4), "class 4, which is outside the subject's 4 outputs"),
        (ones, ones[:, :3], "target has 3 numbers per example; the subject has 4"),
    ):
        with pytest.raises(HarnessError, match=says):
            classifier.evaluate(Vectors("own", inputs, target, "class"), [()], zero, loss)
    with pytest.raises(
        HarnessError, match="synthetic_induction makes token sequences; subject classifier reads vectors"
    ):
        write_batch(method("batch", "synthetic_induction"), classifier.reads, classifier.label)
    classifier.reads = Vocabulary(10, 10)
    with pytest.raises(HarnessError, match="batch vectors makes vectors; subject classifier reads token sequences"):
        write_batch(method("batch", "vectors"), classifier.reads, classifier.label)


def test_readers_of_attention_are_refused() -> None:
    batch = method("batch", "vectors", n=4)(Width(12, 4))
    with pytest.raises(HarnessError, match="reads 'attention', which subject classifier does not have"):
        subject().record(batch, {"signal": method("signal", "max_attention")})


def test_metrics_of_classes_and_of_outputs_are_told_apart() -> None:
    classifier = subject()
    inputs = method("batch", "vectors", n=6)(Width(12, 4)).inputs
    outputs = Vectors("own", inputs, shipped()(torch.from_numpy(inputs)).detach().numpy() + 2, "outputs")
    zero = method("intervention", "zero")
    (values,) = classifier.evaluate(outputs, [()], zero, [method("metric", "target_error")])
    np.testing.assert_allclose(values, 4, rtol=1e-5)  # every output is two below its target
    with pytest.raises(HarnessError, match="metric=loss needs a class"):
        classifier.evaluate(outputs, [()], zero, [method("metric", "loss")])
    with pytest.raises(HarnessError, match="the batch has neither counterfactuals nor wrong answers"):
        classifier.evaluate(outputs, [()], zero, [method("metric", "logit_difference")])
    classes = Vectors("own", inputs, np.zeros(6, dtype=np.int64), "class")
    with pytest.raises(HarnessError, match="metric=target_error needs all right outputs"):
        classifier.evaluate(classes, [()], zero, [method("metric", "target_error")])
