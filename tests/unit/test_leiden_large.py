"""Leiden on graphs above the size from which igraph's implementation is used."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import scipy
from harness_plugins.partitioners import leiden
from sklearn.metrics import adjusted_rand_score

from harness import Affinity, UnitSpace, method


def planted(groups: int, size: int, noise: float, seed: int = 0) -> tuple[Affinity, np.ndarray]:
    """Groups of linked units, and weaker links between random pairs."""
    n = groups * size
    rng = np.random.default_rng(seed)
    truth = np.arange(n) // size
    dense = np.where(truth[:, None] == truth[None, :], 1.0, noise * (rng.random((n, n)) < 0.2))
    dense = np.triu(dense, 1)
    return Affinity(scipy.sparse.csr_array(dense + dense.T), UnitSpace.heads([n])), truth


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leiden, "LARGE", 10)


@pytest.mark.parametrize("parameters", [{"quality": "modularity"}, {"resolution": [1.0, 2.0]}, {"quality": "cpm"}])
def test_both_implementations_find_the_planted_groups_with_the_same_quality(
    parameters: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    affinity, truth = planted(groups=6, size=8, noise=0.3)
    if parameters.get("quality") == "cpm":
        parameters = {**parameters, "resolution": [0.5]}
    small = method("partitioner", "leiden", **parameters)(affinity)
    monkeypatch.setattr(leiden, "LARGE", 10)
    found = method("partitioner", "leiden", **parameters)(affinity)
    for a, b in zip(small, found, strict=True):
        assert adjusted_rand_score(a.labels, truth) == adjusted_rand_score(b.labels, truth) == 1.0
        assert a.diagnostics["quality"] == pytest.approx(b.diagnostics["quality"], abs=1e-9)


def test_the_seed_alone_decides(large: None) -> None:
    affinity, _ = planted(groups=4, size=6, noise=0.9)
    partitioner = method("partitioner", "leiden", seed=3)
    random.seed(1)
    first = partitioner(affinity)
    random.seed(2)
    again = partitioner(affinity)
    assert [p.labels.tolist() for p in first] == [p.labels.tolist() for p in again]
