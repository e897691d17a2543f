"""The published numbers of the closure paper (OLMo-1B, synthetic induction), from the published couplings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.closure.statistics import p_value, z_score
from harness.data.grouping import Affinity, Agreement, Labels, Partition, isolation, purity
from harness.data.units import UnitSpace
from harness.registry.config import registry

UNITS = UnitSpace.heads([16] * 16)
KS = (4, 6, 8, 10, 12)
SELF_HEADS = UNITS.find(["L0H0", "L0H1", "L0H2", "L0H10", "L0H13"])


@pytest.fixture(scope="module")
def couplings(reference: Path) -> np.ndarray:
    return np.load(reference / "J.npy").astype(np.float64)


@pytest.fixture(scope="module")
def partitions(couplings: np.ndarray) -> dict[int, Partition]:
    spectral = registry().get("partitioner", "spectral").build({"k": KS})
    return {partition.k: partition for partition in spectral(Affinity(np.abs(couplings), UNITS))}


@pytest.fixture(scope="module")
def labels(reference: Path) -> Labels:
    """The 45 classified heads; ``unclassified`` is a class, and all other heads are unknown."""
    classes: list[str | None] = [None] * len(UNITS)
    for head in _json(reference / "labels.json")["classifications"]:
        classes[head["layer"] * 16 + head["head"]] = head["classification"]
    return Labels(tuple(classes), UNITS)


@pytest.mark.parametrize("k", KS)
def test_partitions_of_the_published_couplings_are_the_published_ones(
    k: int, partitions: dict[int, Partition], reference: Path
) -> None:
    published = _json(reference / "results.json")["cluster_results"][str(k)]
    np.testing.assert_array_equal(partitions[k].labels, published)


@pytest.mark.parametrize("k", KS)
def test_agreement_with_the_labels_is_the_published_one(
    k: int, partitions: dict[int, Partition], labels: Labels, reference: Path
) -> None:
    agreement = Agreement.of(partitions[k], labels)
    assert agreement is not None
    assert len(labels.known) == 45
    for published in (
        _json(reference / "results.json")["metrics_by_k"][str(k)],
        _json(reference / "baseline_comparison.json")["ising_J"][str(k)],
    ):
        assert agreement.ari == pytest.approx(published["ari"], abs=5e-5)
        assert agreement.nmi == pytest.approx(published["nmi"], abs=5e-5)
        assert agreement.purity == pytest.approx(published["purity"], abs=5e-5)


def test_the_published_candidate_is_a_group_of_ten_isolated_5_74_and_pure(
    partitions: dict[int, Partition], labels: Labels, couplings: np.ndarray
) -> None:
    assert SELF_HEADS in partitions[10].groups()
    assert isolation(SELF_HEADS, couplings) == pytest.approx(5.74, abs=0.005)
    assert [labels.classes[unit] for unit in SELF_HEADS] == ["self"] * 5
    assert purity(SELF_HEADS, labels) == 1.0


def test_the_published_selection_rule_takes_the_published_candidate(
    partitions: dict[int, Partition], labels: Labels, couplings: np.ndarray
) -> None:
    selector = registry().get("selector", "paper_score").build({"min_size": 4, "count": 1})
    (candidate,) = selector(partitions[10], Affinity(np.abs(couplings), UNITS), labels)
    assert candidate.members == SELF_HEADS


def test_isolation_alone_takes_the_published_candidate_too(
    partitions: dict[int, Partition], couplings: np.ndarray
) -> None:
    selector = registry().get("selector", "most_isolated").build({"min_size": 4, "count": 1})
    (candidate,) = selector(partitions[10], Affinity(np.abs(couplings), UNITS))
    assert candidate.members == SELF_HEADS
    assert candidate.score == pytest.approx(5.74, abs=0.005)


def test_the_best_agreement_is_at_six_groups_not_at_the_published_ten(
    partitions: dict[int, Partition], labels: Labels
) -> None:
    agreement = registry().get("chooser", "labels").build({})([partitions[k] for k in KS], labels)
    assert KS[int(np.argmax(agreement))] == 6


@pytest.mark.parametrize(
    ("measure", "damage", "z_population", "z_sample"),
    [("loss", 1, 1.83, 1.63), ("acc_top1", -1, -1.97, -1.76), ("mean_logit_B", -1, -2.68, -2.39)],
)
def test_the_published_closure_scores(
    measure: str, damage: int, z_population: float, z_sample: float, reference: Path
) -> None:
    test = _json(reference / "closure_test.json")
    baseline = test["baseline"][measure]
    delta = test["ablate_cluster2"][measure] - baseline
    controls = [control[measure] - baseline for control in test["matched_random_controls"]]
    assert len(controls) == 5
    assert z_score(delta, controls, ddof=0) == pytest.approx(z_population, abs=0.005)
    assert z_score(delta, controls) == pytest.approx(z_sample, abs=0.005)
    assert p_value(delta, controls, damage) == pytest.approx(1 / 6)  # the smallest there is with five controls


def _json(path: Path) -> Any:
    return json.loads(path.read_text())
