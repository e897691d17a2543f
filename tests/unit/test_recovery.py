"""Clustering recovers planted groups, and depends only on its input and seed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import cache
from typing import Any

import igraph
import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score
from threadpoolctl import threadpool_limits

from harness.data.grouping import Affinity, Labels, Partition
from harness.data.recording import Scores, Spins
from harness.data.units import UnitSpace
from harness.registry.config import registry
from harness.registry.registry import Registry
from harness.util.threads import one_thread


@pytest.fixture(autouse=True)
def small_fits_on_one_thread() -> Iterator[None]:
    """One thread, as in the pipeline: more threads than cores make small fits fifty times slower."""
    with one_thread():
        yield


@cache
def methods() -> Registry:
    """Loaded once: these tests build hundreds of methods."""
    return registry()


def partition(name: str, *given: Any, **parameters: Any) -> list[Partition]:
    found: list[Partition] = methods().get("partitioner", name).build(parameters)(*given)
    return found


def planted(
    sizes: list[int], between: float, noise: float, seed: int, floor: float = 0.0
) -> tuple[Affinity, np.ndarray]:
    """Affinity 1 within a block and ``between`` across, with normal noise, cut off below the floor; shuffled units."""
    rng = np.random.default_rng(seed)
    blocks = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    upper = np.triu(noise * rng.normal(size=(len(blocks), len(blocks))), 1)
    matrix = np.where(np.equal.outer(blocks, blocks), 1.0, between) + upper + upper.T
    matrix[matrix < floor] = 0.0
    np.fill_diagonal(matrix, 0.0)
    return Affinity(matrix, UnitSpace.heads([len(blocks)])), blocks


def planted_spins(sizes: list[int], observations: int, flips: float, seed: int) -> tuple[Spins, np.ndarray]:
    """Each block is active in a tenth of the observations, all of its units together, but for a share of flips."""
    rng = np.random.default_rng(seed)
    blocks = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    active = (rng.random((observations, len(sizes))) < 0.1)[:, blocks]
    active ^= rng.random(active.shape) < flips
    return Spins(np.where(active, 1, -1).astype(np.int8), UnitSpace.heads([len(blocks)])), blocks


# ----------------------------------------------------------------------------------------------------------------------
# Planted groups are found
# ----------------------------------------------------------------------------------------------------------------------

UNEVEN = [6, 9, 12, 15, 18]
CLUSTERINGS = {
    "spectral": ("spectral", {"k": [5]}),
    "eigengap": ("eigengap", {}),
    "agglomerative, average": ("agglomerative", {"k": [5]}),
    "agglomerative, complete": ("agglomerative", {"k": [5], "linkage": "complete"}),
    "agglomerative, single": ("agglomerative", {"k": [5], "linkage": "single"}),
    "leiden, modularity": ("leiden", {"quality": "modularity"}),
    "leiden, configuration": ("leiden", {"resolution": [1.0]}),
    "leiden, cpm": ("leiden", {"quality": "cpm", "resolution": [0.5]}),
}


@pytest.mark.parametrize("method", CLUSTERINGS)
@pytest.mark.parametrize("seed", range(3))
def test_planted_blocks_are_recovered(method: str, seed: int) -> None:
    """Noise of 0.15 on 1 within and 0.1 between; for the eigengap, links below 0.3 are cut off."""
    affinity, blocks = planted(UNEVEN, 0.1, noise=0.15, seed=seed, floor=0.3 if method == "eigengap" else 0.0)
    name, parameters = CLUSTERINGS[method]
    (found,) = partition(name, affinity, **parameters)
    assert found.k == len(UNEVEN)
    assert adjusted_rand_score(blocks, found.labels) >= 0.9


@pytest.mark.parametrize("seed", range(3))
def test_planted_coactivation_is_recovered_from_spins(seed: int) -> None:
    spins, blocks = planted_spins([3, 4, 5, 6, 7], observations=1000, flips=0.01, seed=seed)
    for threshold in (0.0, 0.01):
        (found,) = partition("mdl_merge", spins, threshold=threshold, seed=seed)
        assert adjusted_rand_score(blocks, found.labels) >= 0.9


@pytest.mark.parametrize("k", range(2, 13))
@pytest.mark.parametrize("seed", range(2))
def test_the_eigengap_is_at_the_planted_number_of_groups(k: int, seed: int) -> None:
    """A quarter of the background that would hide k blocks."""
    affinity, blocks = planted([8] * k, between=0.25 / (k + 1), noise=0.25 / (k + 1), seed=seed)
    (found,) = partition("eigengap", affinity, seed=seed)
    assert found.k == k
    assert adjusted_rand_score(blocks, found.labels) == 1.0


def test_forty_separate_pairs_are_found_as_forty_groups() -> None:
    affinity, blocks = planted([2] * 40, between=0.0, noise=0.0, seed=0)
    (found,) = partition("eigengap", affinity)
    assert (found.k, found.diagnostics["components"], found.diagnostics["near_singletons"]) == (40, 40, 40)
    assert adjusted_rand_score(blocks, found.labels) == 1.0


def test_forty_pairs_in_one_component_are_found_only_without_a_maximum() -> None:
    affinity, blocks = planted([2] * 40, between=0.001, noise=0.0, seed=0)
    (found,) = partition("eigengap", affinity)
    assert (found.k, found.diagnostics["components"]) == (40, 1)
    assert adjusted_rand_score(blocks, found.labels) == 1.0
    assert partition("eigengap", affinity, cap=12)[0].k <= 12


@pytest.mark.parametrize("quality", ["modularity", "rb_configuration", "cpm"])
@pytest.mark.parametrize("seed", range(3))
def test_planted_groups_are_recovered_from_signed_affinities(quality: str, seed: int) -> None:
    """Three groups with negative affinity to each other, with noise as large as the links."""
    rng = np.random.default_rng(seed)
    camps = rng.permutation(np.repeat(np.arange(3), 12))
    upper = np.triu(np.where(np.equal.outer(camps, camps), 0.5, -0.25) + 0.4 * rng.normal(size=(36, 36)), 1)
    affinity = Affinity(upper + upper.T, UnitSpace.heads([36]))
    (found,) = partition("leiden", affinity, quality=quality, resolution=[0.1], seed=seed)
    assert adjusted_rand_score(camps, found.labels) >= 0.9


@pytest.mark.parametrize("seed", range(3))
def test_the_quality_of_leiden_is_at_least_that_of_the_planted_partition(seed: int) -> None:
    affinity, blocks = planted(UNEVEN, between=0.5, noise=0.4, seed=seed)
    graph = igraph.Graph.Weighted_Adjacency(affinity.matrix, mode="undirected")
    (found,) = partition("leiden", affinity, quality="modularity", seed=seed)
    assert found.diagnostics["quality"] == pytest.approx(graph.modularity(found.labels.tolist(), weights="weight"))
    assert found.diagnostics["quality"] >= graph.modularity(blocks.tolist(), weights="weight") - 1e-12


def test_random_groups_agree_with_planted_ones_as_chance_does() -> None:
    """The mean adjusted Rand index over 200 seeds is within three standard errors of 0."""
    units, blocks = UnitSpace.heads([16] * 3), np.repeat(np.arange(4), 12)
    drawn = [partition("random", units, k=[4, 9], seed=seed) for seed in range(200)]
    for found in zip(*drawn, strict=True):
        indices = np.array([adjusted_rand_score(blocks, one.labels) for one in found])
        assert abs(indices.mean()) < 3 * indices.std(ddof=1) / np.sqrt(len(indices))
        assert len(np.unique(indices)) > 20


def test_layers_and_oracle_recover_their_own_groups() -> None:
    units = UnitSpace.heads([4, 4, 4])
    assert adjusted_rand_score(units.depth_of, partition("layers", units)[0].labels) == 1.0
    classes = tuple("abcbacbabcac")
    assert adjusted_rand_score(classes, partition("oracle", Labels(classes, units), None)[0].labels) == 1.0


# ----------------------------------------------------------------------------------------------------------------------
# Nothing but the input and the seed decides
# ----------------------------------------------------------------------------------------------------------------------

UNITS = UnitSpace.heads([10, 10, 10])
DATA = np.random.default_rng(5)
MATRIX = planted([6, 10, 14], between=0.5, noise=0.4, seed=7)[0].matrix
SIGNED = MATRIX - 0.6 * (1 - np.eye(30))
SPINS = planted_spins([6, 10, 14], observations=200, flips=0.1, seed=7)[0].values
SCORES = np.round(DATA.gamma(1.0, size=30), 1)  # with ties
CLASSES = tuple(DATA.choice(["a", "b", "c"], 30).tolist())


def given_in(order: np.ndarray) -> dict[str, Any]:
    """The same input with its units in this order."""
    units = UnitSpace(tuple(UNITS.units[i] for i in order))
    return {
        "affinity": Affinity(MATRIX[np.ix_(order, order)], units),
        "signed": Affinity(SIGNED[np.ix_(order, order)], units),
        "spins": Spins(SPINS[:, order], units),
        "scores": Scores(SCORES[order], units),
        "labels": Labels(tuple(CLASSES[i] for i in order), units),
        "units": units,
    }


STRAIGHT = np.arange(30)
CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "eigengap": ("eigengap", "affinity", {"seed": 3}),
    "leiden": ("leiden", "affinity", {"seed": 3}),
    "leiden, cpm": ("leiden", "affinity", {"quality": "cpm", "resolution": [0.6], "seed": 3}),
    "leiden, signed": ("leiden", "signed", {"seed": 3}),
    "mdl_merge": ("mdl_merge", "spins", {}),
    "mdl_merge, drawn": ("mdl_merge", "spins", {"threshold": 0.05, "seed": 3}),
    "agglomerative": ("agglomerative", "affinity", {}),
    "agglomerative, complete": ("agglomerative", "affinity", {"linkage": "complete"}),
    "agglomerative, single": ("agglomerative", "affinity", {"linkage": "single"}),
    "elbow": ("elbow", "scores", {}),
    "top_k": ("top_k", "scores", {}),
    "threshold": ("threshold", "scores", {"at": 1.0}),
    "random": ("random", "units", {}),
    "layers": ("layers", "units", {}),
    "oracle": ("oracle", "labels", {}),
}


def labels_of(case: str, order: np.ndarray = STRAIGHT) -> list[np.ndarray]:
    name, asks, parameters = CASES[case]
    truth = [None] if name == "oracle" else []
    return [found.labels for found in partition(name, given_in(order)[asks], *truth, **parameters)]


@pytest.mark.parametrize("case", CASES)
def test_partitions_do_not_depend_on_the_order_of_units(case: str) -> None:
    straight = labels_of(case)
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(30)
        for expected, found in zip(straight, labels_of(case, order), strict=True):
            np.testing.assert_array_equal(found, expected[order])


@pytest.mark.parametrize("case", CASES)
def test_partitions_do_not_depend_on_the_number_of_threads(case: str) -> None:
    found = []
    for threads in (1, 2):
        with threadpool_limits(threads):
            found.append(labels_of(case))
    for one, two in zip(*found, strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("case", CASES)
def test_partitions_do_not_use_or_change_global_random_states(case: str) -> None:
    found = []
    for seed in (1, 2):
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        numbers, tensors = np.random.get_state(), torch.get_rng_state()
        found.append(labels_of(case))
        np.testing.assert_array_equal(np.random.get_state()[1], numbers[1])
        assert torch.equal(torch.get_rng_state(), tensors)
    for one, two in zip(*found, strict=True):
        np.testing.assert_array_equal(one, two)
