"""Activity that was measured elsewhere: groups are proposed from a file of observations, without a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness_plugins.subjects.precomputed import WithoutModel, numbered
from safetensors.numpy import save_file

from harness import HarnessError, Unit, method, propose, run

N = 24
BLOCK = np.arange(N) % 3
WORDS = ("labels=none", "signal=activation", "binarizer=none", "affinity=pearson", "partitioner=agglomerative",
         "partitioner.k=[3]", "chooser=modularity", "selector=every_group", "reruns=0", "tracking=none")  # fmt: skip


@pytest.fixture
def values() -> np.ndarray:
    """Units of a block share a signal; correlation within a block: 1 / (1 + .49)."""
    rng = np.random.default_rng(0)
    shared: np.ndarray = rng.normal(size=(300, 3))[:, BLOCK] + 0.7 * rng.normal(size=(300, N))
    return shared


def saved(folder: Path, values: np.ndarray) -> str:
    np.save(folder / "A.npy", values)
    return str(folder / "A.npy")


def subject(**parameters: Any) -> WithoutModel:
    found: WithoutModel = method("subject", "precomputed", **parameters)()
    return found


def test_the_blocks_of_the_activity_are_proposed(
    values: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    proposal = propose("subject=precomputed", f"subject.activity={saved(tmp_path, values)}", *WORDS).proposal
    expected = {tuple(np.flatnonzero(block == BLOCK).tolist()) for block in range(3)}
    assert {tuple(candidate.members) for candidate in proposal.candidates} == expected
    np.testing.assert_allclose(proposal.affinity.matrix[0, 3], np.corrcoef(values.T)[0, 3], atol=1e-5)
    assert len(proposal.measured.values) == 300  # all observations: nothing is held out for a test


def test_agreement_with_labels_is_measured(values: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "l.json").write_text(json.dumps({f"u{i}": "abc"[block] for i, block in enumerate(BLOCK)}))
    activity = f"subject.activity={saved(tmp_path, values)}"
    words = [word for word in WORDS if not word.startswith("labels")]
    proposal = propose("subject=precomputed", activity, *words, "labels=file", "labels.path=l.json").proposal
    (agreement,) = proposal.agreement()
    assert agreement.ari == 1


def test_closure_is_refused_because_there_is_no_model(
    values: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(HarnessError, match="subject precomputed A has no model, so it can be neither"):
        run("subject=precomputed", f"subject.activity={saved(tmp_path, values)}", *WORDS)


def test_every_form_of_file_gives_the_same_activity(values: np.ndarray, tmp_path: Path) -> None:
    np.savez(tmp_path / "two.npz", A=values, other=values[:, 0])
    np.savetxt(tmp_path / "A.csv", values, delimiter=",")
    save_file({"A": values}, tmp_path / "A.safetensors")
    files = {"A.csv": "", "A.safetensors": "", "two.npz": "A", "A.npy": ""}
    saved(tmp_path, values)
    for name, key in files.items():
        observations = subject(activity=str(tmp_path / name), key=key).observations
        assert observations is not None
        np.testing.assert_allclose(observations.inputs, values, rtol=1e-6)  # type: ignore[attr-defined]
    with pytest.raises(HarnessError, match=r"the file has 2 arrays \(A, other\)") as caught:
        subject(activity=str(tmp_path / "two.npz"))
    assert caught.value.fix == "Choose one: subject.key=A"


def test_units_are_numbered_listed_or_described(values: np.ndarray, tmp_path: Path) -> None:
    activity = saved(tmp_path, values[:, :3])
    assert subject(activity=activity).units.labels == ("u0", "u1", "u2")
    (tmp_path / "names.json").write_text('["a", "b", "c"]')
    assert subject(activity=activity, units=str(tmp_path / "names.json")).units.labels == ("a", "b", "c")
    described = [
        {"label": "a", "site": "late", "depth": 1},
        {"label": "b", "family": "neuron"},
        {"label": "c", "site": "late", "depth": 1},
    ]
    (tmp_path / "units.json").write_text(json.dumps(described))
    units = subject(activity=activity, units=str(tmp_path / "units.json")).units
    assert units.units == (Unit("a", "late", 1, "unit"), Unit("b", "units", 0, "neuron"), Unit("c", "late", 1, "unit"))


def test_columns_stay_with_their_units_where_sites_alternate(values: np.ndarray, tmp_path: Path) -> None:
    described = [{"label": f"u{i}", "site": f"s{i % 2}", "depth": 1 - i % 2} for i in range(N)]
    (tmp_path / "units.json").write_text(json.dumps(described))
    found = subject(activity=saved(tmp_path, values), units=str(tmp_path / "units.json"))
    assert found.observations is not None
    signal = method("signal", "activation")
    recording = found.record(found.observations, {"signal": signal}, lambda _: None)
    np.testing.assert_allclose(signal(recording).values, values, rtol=1e-6)


def test_an_array_in_memory_is_a_subject_too(values: np.ndarray) -> None:
    found = WithoutModel(numbered(N), {}, activity=values.astype(np.float32))
    choices = dict(word.split("=") for word in WORDS[:4])
    proposal = propose(found, **choices, partitioner=("agglomerative", {"k": [3]}), selector="every_group").proposal
    np.testing.assert_allclose(proposal.measured.values, values, rtol=1e-6)
    assert {candidate.members[0] for candidate in proposal.candidates} == {0, 1, 2}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (np.zeros(4), r"the array has the shape \(4,\)"),
        (np.array([["a"]]), "dtype <U1"),
        (np.array([[0.0, 1.0], [np.nan, np.inf]]), "2 numbers are NaN or infinite; the first is in row 1, column 0"),
    ],
)
def test_activity_that_is_not_numbers_by_observation_and_unit_is_refused(
    content: np.ndarray, says: str, tmp_path: Path
) -> None:
    with pytest.raises(HarnessError, match=says):
        subject(activity=saved(tmp_path, content))


def test_units_and_sources_that_do_not_fit_are_refused(values: np.ndarray, tmp_path: Path) -> None:
    activity = saved(tmp_path, values)
    with pytest.raises(HarnessError, match=r"it has 24 columns; subject\.units=2x3 gives 6 units"):
        subject(activity=activity, units="2x3")
    (tmp_path / "units.json").write_text('[{"label": "a", "layer": 3}]')
    with pytest.raises(HarnessError, match=r'\{"label": "a", "layer": 3\} does not describe a unit'):
        subject(activity=activity, units=str(tmp_path / "units.json"))
    with pytest.raises(HarnessError, match=r"subject\.activity=gone\.npy: the file does not exist"):
        subject(activity="gone.npy")
    found = subject(activity=activity)
    assert found.observations is not None
    with pytest.raises(HarnessError, match="reads 'attention', which subject precomputed A does not have"):
        found.record(found.observations, {"signal": method("signal", "max_attention")}, lambda _: None)


def test_the_content_of_the_activity_is_its_identity(values: np.ndarray, tmp_path: Path) -> None:
    plugin = method("subject", "precomputed", activity=saved(tmp_path, values))
    before = plugin.fingerprint()
    saved(tmp_path, values + 1)
    assert plugin.fingerprint() != before
