"""Subcomponents as units: exact without ablation, mechanisms found and tested, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness import (
    Activity,
    Affinity,
    HarnessError,
    HookedSubject,
    Partition,
    Unit,
    UnitSpace,
    Vectors,
    Verdict,
    method,
    rng_for,
)  # fmt: skip
from harness.closure.cases import cases_of
from harness.closure.report import ClosureReport, close
from harness.closure.trial import Trial
from harness.closure.verdict import decide
from harness.data.contracts import no_tick
from harness.data.stages import call_with
from harness.decomposition.artefact import Decomposition, Subcomponents
from harness.decomposition.importance import SiteMlp
from harness.decomposition.oracle import oracle
from harness.decomposition.targets import ResidualMlp, Superposition, Toy, weights_digest
from harness.decomposition.usage import aliases, examples_of, usage

FEATURES = 20


def opposite_pairs(features: int) -> Superposition:
    """Superposition without training: features 2i and 2i + 1 have opposite directions, all others are orthogonal."""
    toy = Superposition(features, features // 2)
    with torch.no_grad():
        toy.linear1.weight.copy_(torch.eye(features // 2).repeat_interleave(2, dim=1))
        toy.linear1.weight[:, 1::2] *= -1
        toy.linear2.bias.zero_()
    toy.tie()
    return toy


def stored(toy: Toy, folder: Path) -> HookedSubject:
    oracle(toy, "a toy").save(folder / "oracle.safetensors")
    built: HookedSubject = method("subject", "spd", decomposition=str(folder / "oracle.safetensors"))()
    return built


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> HookedSubject:
    return stored(opposite_pairs(FEATURES), tmp_path_factory.mktemp("oracle"))


def features(subject: HookedSubject, **parameters: Any) -> Vectors:
    made: Vectors = method("batch", "sparse_features", **parameters)(subject.reads)
    return made


def pairs_of(subject: HookedSubject) -> dict[str, tuple[int, ...]]:
    """The units of every mechanism."""
    assert subject.truth is not None
    groups: dict[str, list[int]] = {}
    for unit, name in enumerate(subject.truth.classes):
        groups.setdefault(str(name), []).append(unit)
    return {name: tuple(units) for name, units in groups.items()}


def importances(subject: HookedSubject, batch: Vectors) -> Any:
    signal = method("signal", "importance")
    return signal(subject.record(batch, {"signal": signal}))


def test_an_importance_is_the_size_of_the_units_feature(subject: HookedSubject) -> None:
    batch = features(subject, n=50)
    values = importances(subject, batch).values
    for name, units in pairs_of(subject).items():
        for unit in units:
            np.testing.assert_array_equal(values[:, unit], batch.inputs[:, int(name.removeprefix("feature "))])


def test_without_ablation_the_model_is_the_target(subject: HookedSubject) -> None:
    batch = features(subject, n=500)
    outputs = opposite_pairs(FEATURES)(torch.from_numpy(batch.inputs)).detach().numpy()
    error = subject.evaluate(
        Vectors("own", batch.inputs, outputs, "outputs"), [()], method("intervention", "zero"),
        [method("metric", "target_error")],
    )  # fmt: skip
    np.testing.assert_array_equal(error, 0)


def test_ablation_is_the_target_without_the_rank_one_matrix_and_with_the_delta(tmp_path: Path) -> None:
    """Against weights from which U_c V_c is subtracted, where the decomposition leaves half of the matrix out."""
    torch.manual_seed(0)
    target = Superposition(6, 3)
    exact = oracle(target, "a toy")
    halved = {path: Subcomponents(site.v, site.u / 2, site.importance) for path, site in exact.sites.items()}
    Decomposition(halved, "a toy", exact.target_digest, target, truth=exact.truth).save(tmp_path / "a.safetensors")
    subject = method("subject", "spd", decomposition=str(tmp_path / "a.safetensors"))()
    group = subject.units.find(["linear1:2", "linear2:4"])
    with torch.no_grad():
        target.linear1.weight -= torch.outer(halved["linear1"].u[2], halved["linear1"].v[2])
        target.linear2.weight -= torch.outer(halved["linear2"].u[4], halved["linear2"].v[4])
    batch = features(subject, n=200)
    right = target(torch.from_numpy(batch.inputs)).detach().numpy()
    error = subject.evaluate(
        Vectors("own", batch.inputs, right, "outputs"), [group], method("intervention", "zero"),
        [method("metric", "target_error")],
    )  # fmt: skip
    np.testing.assert_allclose(error, 0, atol=1e-12)


# -- proposing ---------------------------------------------------------------------------------------------------------


def partition(subject: HookedSubject, batch: Vectors, name: str, **parameters: Any) -> list[tuple[int, ...]]:
    activity = importances(subject, batch)
    affinity = method("affinity", "pearson_knn", threshold=0.1)(activity)  # smaller correlations are chance
    partitioner = method("partitioner", name, **parameters)
    partitions: list[Partition] = call_with(partitioner, affinity=affinity, activity=activity, units=subject.units)
    return partitions[0].groups()


@pytest.mark.parametrize("empty", [True, False])
def test_mechanisms_of_an_exact_decomposition_are_found(subject: HookedSubject, empty: bool) -> None:
    found = partition(subject, features(subject, n=2048, empty=empty), "mechanisms")
    assert {tuple(sorted(group)) for group in found} == set(pairs_of(subject).values())


def test_the_same_index_says_nothing_of_an_exact_decomposition(subject: HookedSubject) -> None:
    found = partition(subject, features(subject, n=64), "same_index")
    assert [subject.units.names(group) for group in found][:2] == [
        ["linear1:0", "linear2:0"],
        ["linear1:1", "linear2:1"],
    ]
    hits = len({tuple(sorted(group)) for group in found} & set(pairs_of(subject).values()))
    assert hits <= 3  # one of 20 is expected of a random order; four or more have a probability of .02


def test_units_that_are_always_on_are_one_group(tmp_path: Path) -> None:
    torch.manual_seed(0)
    subject = stored(Superposition(12, 6, identities=1), tmp_path)
    batch = features(subject, n=2048, empty=False)
    found = {tuple(sorted(group)) for group in partition(subject, batch, "mechanisms")}
    assert found == set(pairs_of(subject).values())
    assert subject.units.find([f"hidden.0:{i}" for i in range(6)]) in found
    assert subject.about["decomposition"]["always_on"] == [f"hidden.0:{i}" for i in range(6)]


def test_units_without_a_group_can_join_the_one_they_correlate_with() -> None:
    """Two pairs and a noisy follower of the second; the affinity has no link of the follower."""
    rng = rng_for(0, "test")
    first, second = rng.random((2, 400)) * (rng.random((2, 400)) < 0.2)
    values = np.stack([first, first, second, second, second + 0.05 * rng.random(400)], axis=1)
    units = units_named(5)
    matrix = np.zeros((5, 5))
    matrix[[0, 1, 2, 3], [1, 0, 3, 2]] = 1
    arguments = {"affinity": Affinity(matrix, units), "activity": Activity(values, units)}
    assert method("partitioner", "mechanisms")(**arguments)[0].labels.tolist() == [0, 0, 1, 1, -1]
    (joined,) = method("partitioner", "mechanisms", assign=True)(**arguments)
    assert joined.labels.tolist() == [0, 0, 1, 1, 1]
    assert joined.diagnostics["assigned"] == ["u4"]


def units_named(n: int) -> Any:
    return UnitSpace(tuple(Unit(f"u{i}", "a", 0, "unit") for i in range(n)))


# -- closing -----------------------------------------------------------------------------------------------------------


def reports(
    subject: HookedSubject, batch: Vectors, groups: Sequence[tuple[int, ...]], **settings: Any
) -> list[ClosureReport]:
    shared = {"statistic": "share", "scope": "active", "joint": True, "controls": method("controls", "layer_matched")}
    trial = Trial(
        units=subject.units, evaluate=subject.evaluate, batch=batch, intervention=method("intervention", "zero"),
        metrics=[method("metric", "squared_error")], activity=importances(subject, batch),
        **{**shared, **settings},
    )  # fmt: skip
    return [found.report for found in close(cases_of(groups, trial), trial, no_tick)]


@pytest.mark.parametrize(
    ("tested", "shifts"),
    [(4, [5]), pytest.param(FEATURES, [2, 5, 8, 11, 14], marks=pytest.mark.slow)],  # 100 s with type checks at run time
)
def test_true_mechanisms_pass_and_mismatched_pairs_do_not(
    subject: HookedSubject, tested: int, shifts: list[int]
) -> None:
    """True pairs together with as many mismatched ones, which join a feature with another in another dimension."""
    pairs = list(pairs_of(subject).values())
    batch = features(subject, n=2048)
    true, mismatched = [], []
    for shift in shifts:
        wrong = [(pair[0], pairs[(i + shift) % FEATURES][1]) for i, pair in enumerate(pairs)]
        found = reports(subject, batch, [*pairs[:tested], *wrong[:tested]])
        true += found[:tested]
        mismatched += found[tested:]
    assert np.mean([report.verdict is Verdict.PASS for report in true]) >= 0.9
    assert all(report.verdict is not Verdict.PASS for report in mismatched)
    assert np.mean([(report.effects["squared_error"].p or 1) <= 0.05 for report in mismatched]) <= 0.07


@pytest.mark.slow  # minutes: some hundred exact tests on each of two trained decompositions
@pytest.mark.parametrize(("toy", "shifts"), [("tms_20_10", [1, 2, 3, 4, 5, 6]), ("tms_40_10", [3])])
def test_trained_mechanisms_pass_and_mismatched_pairs_do_not(toy: str, shifts: list[int]) -> None:
    """Pairs of the shipped decompositions, and each encoder unit with the decoder unit of another feature.

    Six shifts of 20 pairs, because a share of 20 pairs alone is too coarse to be held against .07.
    """
    trained: HookedSubject = method("subject", "spd", decomposition="trained", toy=toy)()
    pairs = [pair for pair in pairs_of(trained).values() if len(pair) == 2]
    batch = features(trained, n=4096)
    true, mismatched = [], []
    for shift in shifts:
        wrong = [(pair[0], pairs[(i + shift) % len(pairs)][1]) for i, pair in enumerate(pairs)]
        found = reports(trained, batch, [*pairs, *wrong])
        true += found[: len(pairs)]
        mismatched += found[len(pairs) :]
    assert np.mean([report.verdict is Verdict.PASS for report in true]) >= 0.9
    assert np.mean([(report.effects["squared_error"].p or 1) <= 0.05 for report in mismatched]) <= 0.07


def test_features_that_occur_together_are_merged_and_refused(subject: HookedSubject) -> None:
    """Two chains of equal strength: each unit adds half, and the interaction is (2 - 4) / (3 * 2) = -1/3."""
    batch = features(subject, n=4096, synced=((0, 2), (5, 8)))
    pairs = pairs_of(subject)
    merged = [tuple(sorted(pairs[f"feature {a}"] + pairs[f"feature {b}"])) for a, b in ((0, 2), (5, 8))]
    for proposer in ("mechanisms", "leiden"):
        found = {tuple(sorted(group)) for group in partition(subject, batch, proposer)}
        assert set(merged) <= found
    few = {"controls": method("controls", "layer_matched", n=39)}
    for report in reports(subject, features(subject, n=1024, synced=((0, 2), (5, 8))), merged, **few):
        inside = report.anatomy["squared_error"]
        assert report.verdict is Verdict.WEAK_PASS
        assert "several groups that are active together" in report.reason
        assert inside.interaction == pytest.approx(-1 / 3, abs=0.05)
        # Nothing else tells them from one mechanism of four units.
        assert decide(replace(report, joint=False).evidence(0.05))[0] is Verdict.PASS


# -- use ---------------------------------------------------------------------------------------------------------------


def test_mechanisms_of_trained_subcomponents_are_what_single_features_need() -> None:
    """Importances written down by hand: one for feature 1, one for all, one for none."""
    torch.manual_seed(0)
    toy = Superposition(4, 2)
    importance = SiteMlp(4, 4, 4)
    with torch.no_grad():
        importance.first.weight.copy_(10 * torch.eye(4))
        importance.first.bias.zero_()
        importance.second.weight.zero_()
        importance.second.weight[0, 1] = 1
        importance.second.bias.copy_(torch.tensor([0.0, 1.0, 0.0, 0.05]))
    sites = {"linear1": Subcomponents(torch.randn(4, 4), torch.randn(4, 2), importance)}
    sampled, alone = examples_of(toy)
    used = usage(Decomposition(sites, "a toy", weights_digest(toy), toy), toy, sampled, 0.1, alone)["linear1"]
    assert used.alive.tolist() == [0, 1]
    assert used.always_on.tolist() == [1]
    assert used.mechanisms == ["feature 1", "shared", None, None]


@pytest.mark.parametrize(("toy", "right"), [("tms_5_2_id", 5), ("tms_20_10", 20), ("tms_40_10", 38)])
def test_the_trained_decompositions_have_a_pair_for_nearly_every_feature(toy: str, right: int) -> None:
    """The figures of their README: features with exactly one subcomponent in each matrix."""
    subject = method("subject", "spd", decomposition="trained", toy=toy)()
    sites = [[subject.units.units[unit].site for unit in units] for units in pairs_of(subject).values()]
    assert sum(found == ["linear1", "linear2"] for found in sites) >= right


def test_aliases_are_parallel_subcomponents_of_one_matrix() -> None:
    v, u = torch.randn(4, 6), torch.randn(4, 5)
    v[2], u[2] = -2 * v[0], -u[0]  # the same matrix up to a factor
    v[3], u[3] = v[1], -u[1]  # the opposite matrix
    site = Subcomponents(v, u, SiteMlp(4, 6, 2))
    assert aliases(site, torch.arange(4)) == {2: 0}


def test_a_residual_mlp_has_one_mechanism_per_feature_and_shared_neurons(tmp_path: Path) -> None:
    torch.manual_seed(0)
    subject = stored(ResidualMlp(6, 10, blocks=2, neurons=3), tmp_path)
    groups = {name: subject.units.names(units) for name, units in pairs_of(subject).items()}
    assert groups["feature 3"] == ["layers.0.mlp_in:3", "layers.1.mlp_in:3"]
    assert len(groups["shared"]) == 6


# -- bad input ---------------------------------------------------------------------------------------------------------


def test_a_decomposition_without_living_subcomponents_is_refused(tmp_path: Path) -> None:
    toy = opposite_pairs(4)
    found = oracle(toy, "a toy")
    dead = SiteMlp(4, 4, 2)
    torch.nn.init.zeros_(dead.second.weight)
    torch.nn.init.constant_(dead.second.bias, -1)
    site = Subcomponents(found.sites["linear1"].v, found.sites["linear1"].u, dead)
    Decomposition({"linear1": site}, "a toy", found.target_digest, toy).save(tmp_path / "a.safetensors")
    with pytest.raises(HarnessError, match="all subcomponents are dead; the highest importance on any example is 0"):
        method("subject", "spd", decomposition=str(tmp_path / "a.safetensors"))()


def test_a_file_that_is_no_decomposition_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros(3))
    with pytest.raises(HarnessError, match=r"subject\.decomposition="):
        method("subject", "spd", decomposition=str(tmp_path / "a.npz"))()
    with pytest.raises(HarnessError, match=r"subject\.decomposition="):
        method("subject", "spd", decomposition=str(tmp_path / "b.safetensors"))()


def test_a_decomposition_of_another_language_model_is_refused(tmp_path: Path) -> None:
    site = Subcomponents(torch.randn(2, 128), torch.randn(2, 128), SiteMlp(2, 128, 2))
    path = "model.layers.0.self_attn.o_proj"
    Decomposition({path: site}, "another model", "0" * 64).save(tmp_path / "a.safetensors")
    with pytest.raises(HarnessError, match="the decomposition is one of another model with weights 000000000000"):
        method("subject", "spd", decomposition=str(tmp_path / "a.safetensors"))()


def test_a_path_is_refused_where_a_toy_is_decomposed() -> None:
    with pytest.raises(
        HarnessError, match=r"subject.path=there.safetensors has no effect with subject.decomposition=exact"
    ):
        method("subject", "spd", path="there.safetensors")


def test_a_path_is_refused_where_the_file_has_its_toy(tmp_path: Path) -> None:
    oracle(opposite_pairs(4), "a toy").save(tmp_path / "a.safetensors")
    with pytest.raises(HarnessError, match=r"subject.path=gpt2 has no effect: the decomposition is"):
        method("subject", "spd", decomposition=str(tmp_path / "a.safetensors"), path="gpt2")()
    with pytest.raises(HarnessError, match=r"subject.weights=a has no effect with subject.path=tiny"):
        method("subject", "spd", decomposition=str(tmp_path / "a.safetensors"), weights="a")


def test_a_file_without_examples_shows_no_living_subcomponents(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("from torch import nn\ndef build():\n    return nn.Linear(3, 2)\n")
    source = f"{tmp_path / 'mine.py'}:build"
    model = method("subject", "torch_module", module=source).load()
    site = Subcomponents(torch.ones(1, 3), torch.ones(1, 2), SiteMlp(1, 3, 2))
    Decomposition({"": site}, "mine", weights_digest(model)).save(tmp_path / "a.safetensors")
    with pytest.raises(HarnessError, match="it keeps no examples"):
        method("subject", "spd", decomposition=str(tmp_path / "a.safetensors"), path=source)()


def test_a_penalty_chooses_among_trained_decompositions_only() -> None:
    with pytest.raises(HarnessError, match=r"subject.penalty=0.0001 has no effect with subject.decomposition=exact"):
        method("subject", "spd", penalty=1e-4)
    with pytest.raises(HarnessError, match=r"none of tms_20_10, seed 0, penalty 0.0001, comes with") as caught:
        method("subject", "spd", decomposition="trained", penalty=1e-4)()
    assert "harness decompose tms_20_10 minimality=0.0001 frequency=5e-05" in caught.value.fix


@pytest.mark.parametrize("penalty", [2.4e-5, 8e-5, 2.4e-4, 8e-4, 2.4e-3])
def test_a_shipped_decomposition_has_the_penalty_of_its_name(penalty: float) -> None:
    about = method("subject", "spd", decomposition="trained", penalty=penalty)().about["decomposition"]
    assert about["penalty"] == {"penalty": "smooth_l0", "minimality": penalty, "frequency": penalty / 2}
    assert about["expected"] == {"linear1": 20, "linear2": 20}
    assert sum(about["highest"]["linear1"]) == about["alive"]["linear1"] + about["dead"]["linear1"] == 50
