"""Every partitioner except spectral, against definitions, other implementations and brute force; ties, refusals."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator
from functools import cache
from typing import Any

import igraph
import numpy as np
import pytest
import scipy.sparse
from harness_plugins.partitioners._counts import numbers_of_groups
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.linalg import eigh
from scipy.spatial.distance import squareform
from sklearn.metrics import adjusted_rand_score

from harness.data.grouping import UNCLASSIFIED, Affinity, Labels, Partition
from harness.data.recording import Scores, Spins
from harness.data.units import UnitSpace
from harness.registry.config import registry
from harness.registry.registry import Registry
from harness.util.errors import HarnessError
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


def affinity(matrix: np.ndarray) -> Affinity:
    return Affinity(np.asarray(matrix, dtype=float), UnitSpace.heads([len(matrix)]))


def scores(values: Any) -> Scores:
    return Scores(np.asarray(values, dtype=float), UnitSpace.heads([len(values)]))


def spins(active: np.ndarray) -> Spins:
    return Spins(np.where(active, 1, -1).astype(np.int8), UnitSpace.heads([active.shape[1]]))


def linked(n: int, links: dict[tuple[int, int], float]) -> Affinity:
    """A graph of n units with these links."""
    matrix = np.zeros((n, n))
    for (i, j), weight in links.items():
        matrix[i, j] = matrix[j, i] = weight
    return affinity(matrix)


def random_weights(n: int, seed: int, signed: bool = False) -> np.ndarray:
    rng = np.random.default_rng(seed)
    upper = np.triu(rng.normal(size=(n, n)) if signed else rng.random((n, n)) ** 3, 1)
    return upper + upper.T


def complete(n: int) -> np.ndarray:
    return np.ones((n, n)) - np.eye(n)


def all_partitions(n: int) -> Iterator[np.ndarray]:
    """All partitions of n units, as restricted growth strings."""
    for labels in itertools.product(range(n), repeat=n):
        if all(label <= max(labels[:i], default=-1) + 1 for i, label in enumerate(labels)):
            yield np.array(labels)


# ----------------------------------------------------------------------------------------------------------------------
# Eigengap
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_the_number_of_groups_is_that_of_the_generalised_problem(seed: int) -> None:
    """L u = lambda D u solved directly, on two uneven blocks with enough noise that the number found varies."""
    same = np.arange(14) < 6
    matrix = random_weights(14, seed) + np.where(same[:, None] == same[None, :], 0.35, 0.0) * complete(14)
    degrees = np.diag(matrix.sum(axis=0))
    values = eigh(degrees - matrix, degrees, eigvals_only=True)
    allowed = [k for k in range(1, 8) if values[k - 1] < 0.7]
    expected = max(allowed, key=lambda k: values[k] - values[k - 1])
    (found,) = partition("eigengap", affinity(matrix))
    assert found.k == expected == len(found.groups())


def test_each_component_is_split_separately_and_small_ones_are_one_group() -> None:
    """Two blocks of four with one weak link; a chain of four; a pair; a unit without links."""
    links = {(i, j): 1.0 for block in (range(4), range(4, 8)) for i, j in itertools.combinations(block, 2)}
    links |= {(3, 4): 0.1, (8, 9): 1.0, (9, 10): 0.01, (10, 11): 1.0, (12, 13): 0.5}
    (found,) = partition("eigengap", linked(15, links))
    assert sorted(found.groups()) == [(0, 1, 2, 3), (4, 5, 6, 7), (8, 9, 10, 11), (12, 13)]
    assert found.labels[14] == -1
    assert found.k == 4
    assert found.diagnostics == {"components": 3, "isolated": ["L0H14"], "near_singletons": 0}


def test_the_smallest_component_that_is_split_can_be_set() -> None:
    chain = linked(4, {(0, 1): 1.0, (1, 2): 0.01, (2, 3): 1.0})
    assert partition("eigengap", chain)[0].groups() == [(0, 1, 2, 3)]
    assert sorted(partition("eigengap", chain, min_component=4)[0].groups()) == [(0, 1), (2, 3)]


@pytest.mark.parametrize("k", [2, 5, 9])
@pytest.mark.parametrize("m", [4, 9])
def test_a_weak_background_hides_blocks_at_the_strength_theory_gives(k: int, m: int) -> None:
    """k blocks of m units, 1 inside and b between: eigenvalues 0, k m b / d and 1 + 1 / d, so that gap k beats gap 1
    where b < 1 / (k + 1); d = m - 1 + (k - 1) m b."""
    for share, expected in ((0.95, k), (1.05, 1)):
        matrix = np.kron(np.eye(k), complete(m)) + share / (k + 1) * np.kron(complete(k), np.ones((m, m)))
        assert partition("eigengap", affinity(matrix))[0].k == expected


@pytest.mark.parametrize("n", [2, 5, 12])
def test_units_of_equal_affinity_are_one_group(n: int) -> None:
    (found,) = partition("eigengap", affinity(0.3 * complete(n)))
    assert found.groups() == [tuple(range(n))]


def test_a_wide_gap_at_the_top_of_the_spectrum_is_not_used() -> None:
    """A star, whose largest eigenvalue is isolated near 2, and two weakly linked cliques."""
    links = {(0, i): 1.0 for i in range(1, 9)} | {(1, 9): 0.01}
    links |= {(i, j): 1.0 for block in (range(9, 14), range(14, 19)) for i, j in itertools.combinations(block, 2)}
    links |= {(i, j): 0.2 for i in range(9, 14) for j in range(14, 19)}
    graph = linked(19, links)
    degrees = np.diag(graph.matrix.sum(axis=0))
    gaps = np.diff(eigh(degrees - graph.matrix, degrees, eigvals_only=True))
    assert gaps.argmax() + 1 == 18  # nearly every unit by itself
    (found,) = partition("eigengap", graph)
    assert sorted(found.groups()) == [tuple(range(9)), tuple(range(9, 14)), tuple(range(14, 19))]


def test_groups_do_not_depend_on_the_scale_of_affinity() -> None:
    matrix = np.kron(np.eye(3), complete(6)) + 0.02 * random_weights(18, 0)
    for scale in (1e-12, 1e9):
        for name in ("eigengap", "leiden"):
            first, scaled = (partition(name, affinity(matrix * factor))[-1] for factor in (1.0, scale))
            np.testing.assert_array_equal(first.labels, scaled.labels)


def test_eigenvalues_from_the_limit_below_on_are_not_groups() -> None:
    """A ring of six pairs: six eigenvalues of up to 0.57, and the others above 1.4."""
    links = {(2 * i, 2 * i + 1): 1.0 for i in range(6)} | {(i, (i + 1) % 12): 0.4 for i in range(1, 12, 2)}
    ring = linked(12, links)
    assert partition("eigengap", ring)[0].k == 6
    assert partition("eigengap", ring, below=0.01)[0].k == 1
    assert partition("eigengap", ring, cap=5)[0].k <= 5
    assert partition("eigengap", ring, cap=1)[0].k == 1


def test_groups_that_are_nearly_all_pairs_are_flagged() -> None:
    pairs = linked(9, {(0, 1): 1.0, (2, 3): 1.0, (4, 5): 1.0, (6, 7): 1.0, (7, 8): 1.0})
    (found,) = partition("eigengap", pairs)
    assert (found.k, found.diagnostics["near_singletons"]) == (4, 3)


def test_a_link_stored_on_one_side_only_counts() -> None:
    """Affinities may be asymmetric by rounding and zero on one side."""
    matrix = np.zeros((6, 6))
    matrix[0, 1:] = 1e-10
    for i, j in itertools.combinations(range(1, 6), 2):
        matrix[i, j] = matrix[j, i] = 1.0
    (found,) = partition("eigengap", affinity(matrix))
    assert (found.labels >= 0).all()
    assert partition("leiden", affinity(matrix), quality="modularity")[0].labels[0] >= 0


@pytest.mark.parametrize("wrong", [{"min_component": 0}, {"below": 0.0}, {"below": 2.5}, {"cap": 0}])
def test_invalid_parameters_of_eigengap_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(HarnessError, match=f"partitioner.{next(iter(wrong))}="):
        partition("eigengap", affinity(complete(4)), **wrong)


# ----------------------------------------------------------------------------------------------------------------------
# Leiden
# ----------------------------------------------------------------------------------------------------------------------


def potts_quality(matrix: np.ndarray, labels: np.ndarray, gamma: float, quality: str) -> float:
    """The formula as written, over all ordered pairs."""
    total = 0.0
    for sign in (1, -1):
        part = np.maximum(sign * matrix, 0.0)
        if quality == "cpm":
            null = (1.0 if sign > 0 else 0.0) * complete(len(matrix))
        else:
            null = np.outer(part.sum(axis=0), part.sum(axis=0)) / max(part.sum(), 1e-300)
        total += sign * ((part - gamma * null) * np.equal.outer(labels, labels)).sum()
    return float(total / np.abs(matrix).sum())


@pytest.mark.parametrize("seed", range(4))
def test_the_quality_is_the_modularity_of_igraph(seed: int) -> None:
    matrix = random_weights(20, seed)
    graph = igraph.Graph.Weighted_Adjacency(matrix, mode="undirected")
    (found,) = partition("leiden", affinity(matrix), quality="modularity")
    expected = graph.modularity(found.labels.tolist(), weights="weight")
    assert found.diagnostics["quality"] == pytest.approx(expected)
    assert found.setting == ""
    for gamma, one in zip((0.5, 1.3), partition("leiden", affinity(matrix), resolution=(0.5, 1.3)), strict=True):
        expected = graph.modularity(one.labels.tolist(), weights="weight", resolution=gamma)
        assert one.diagnostics["quality"] == pytest.approx(expected)
        assert one.setting == f"resolution = {gamma}"


@pytest.mark.parametrize(
    ("quality", "gamma"), [("modularity", 1.0), ("rb_configuration", 0.8), ("rb_configuration", 1.5), ("cpm", 0.3)]
)
@pytest.mark.parametrize("seed", range(3))
def test_leiden_finds_the_best_of_all_partitions_of_six_units(quality: str, gamma: float, seed: int) -> None:
    """Signed weights: two clear groups and noise; all 203 partitions."""
    camps = np.array([1, 1, -1, -1, 1, -1])
    matrix = (np.outer(camps, camps) + 0.8 * random_weights(6, seed, signed=True)) * complete(6)
    best = max(potts_quality(matrix, labels, gamma, quality) for labels in all_partitions(6))
    (found,) = partition("leiden", affinity(matrix), quality=quality, resolution=(gamma,))
    assert potts_quality(matrix, found.labels, gamma, quality) == pytest.approx(best)
    assert found.diagnostics["quality"] == pytest.approx(best)


def test_groups_with_only_negative_links_between_them_are_found() -> None:
    camps = np.arange(12) % 2
    matrix = np.where(np.equal.outer(camps, camps), 1.0, -0.5) * complete(12)
    for quality, gamma in (("modularity", 1.0), ("rb_configuration", 0.5), ("cpm", 0.2)):
        (found,) = partition("leiden", affinity(matrix), quality=quality, resolution=(gamma,))
        assert adjusted_rand_score(camps, found.labels) == 1.0


def test_a_weak_negative_link_does_not_outweigh_strong_positive_ones() -> None:
    """Both parts are weighted by their total weight; with separate normalisation this link would split a block."""
    blocks = np.arange(12) // 6
    matrix = np.where(np.equal.outer(blocks, blocks), 1.0, 0.05) * complete(12)
    matrix[0, 1] = matrix[1, 0] = -0.001
    (found,) = partition("leiden", affinity(matrix), quality="modularity")
    assert adjusted_rand_score(blocks, found.labels) == 1.0


def test_there_is_one_partition_per_resolution_and_more_groups_at_higher_ones() -> None:
    blocks = np.arange(24) // 3
    halves = np.arange(24) // 12
    matrix = np.where(np.equal.outer(halves, halves), 0.3, 0.05) + np.where(np.equal.outer(blocks, blocks), 0.7, 0.0)
    found = partition("leiden", affinity(matrix * complete(24)), resolution=(3.0, 1.0, 0.1))
    assert [one.k for one in found] == [8, 2, 1]
    assert [one.setting for one in found] == ["resolution = 3", "resolution = 1", "resolution = 0.1"]
    assert [one.diagnostics["all_in_one"] for one in found] == [False, False, True]
    for one in found:
        assert one.k == len(one.groups())


def test_units_without_links_are_in_no_group_and_are_named() -> None:
    triangles = linked(8, dict.fromkeys([(0, 1), (1, 2), (0, 2), (4, 5), (5, 6), (4, 6)], 1.0))
    (found,) = partition("leiden", triangles, quality="modularity")
    assert sorted(found.groups()) == [(0, 1, 2), (4, 5, 6)]
    assert found.labels[[3, 7]].tolist() == [-1, -1]
    assert found.diagnostics["isolated"] == ["L0H3", "L0H7"]
    assert found.diagnostics["quality"] == pytest.approx(0.5)  # two equal cliques
    assert found.diagnostics["singletons"] == 0


def test_groups_of_one_unit_are_counted() -> None:
    pair_and_tail = linked(3, {(0, 1): 1.0, (1, 2): 0.1})
    (found,) = partition("leiden", pair_and_tail, quality="cpm", resolution=(0.5,))
    assert found.diagnostics["singletons"] == 1


def test_resolutions_that_join_no_units_are_refused_with_one_that_does() -> None:
    graph = affinity(0.3 * complete(5))
    with pytest.raises(HarnessError, match=r"no two units are joined; the largest affinity is 0\.3") as caught:
        partition("leiden", graph, quality="cpm")
    assert caught.value.fix.endswith("'partitioner.resolution=[0.15]'")
    assert partition("leiden", graph, quality="cpm", resolution=(0.15,))[0].k == 1


def test_only_negative_affinities_are_refused() -> None:
    with pytest.raises(HarnessError, match="no affinity is positive") as caught:
        partition("leiden", affinity(-complete(4)))
    assert "affinity.transform=abs" in caught.value.fix


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"resolution": []}, r"resolution=\[\]"),
        ({"resolution": [0.0, 1.0]}, r"resolution\.0=0\.0"),
        ({"resolution": [1.0, math.inf]}, r"resolution\.1=inf"),
        ({"resolution": [math.nan]}, r"resolution\.0=nan"),
        ({"iterations": 0}, r"iterations.*=0"),
        ({"iterations": -2}, r"iterations.*=-2"),
        ({"quality": "x"}, "quality='x'"),
    ],
)
def test_invalid_parameters_of_leiden_are_refused(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(HarnessError, match=rf"partitioner\.{says}"):
        partition("leiden", affinity(complete(4)), **wrong)


class Counted(random.Random):
    """A random generator that counts its draws."""

    rolls = 0

    def random(self) -> float:
        self.rolls += 1
        return super().random()

    def getrandbits(self, k: int) -> int:
        self.rolls += 1
        return super().getrandbits(k)


@pytest.mark.parametrize(("quality", "gamma"), [("rb_configuration", 4.0), ("cpm", 0.5)])
@pytest.mark.parametrize("unit", [2.0**-60, 2.0**40])
def test_the_unit_of_affinities_does_not_change_what_leiden_finds(quality: str, gamma: float, unit: float) -> None:
    spins = np.where(np.random.default_rng(0).random((60, 8)) < 0.5, 1.0, -1.0)
    matrix = np.abs(spins @ spins.T / 8) * (1 - np.eye(60))  # four different affinities, so that most moves are ties
    (usual,) = partition("leiden", affinity(matrix), quality=quality, resolution=(gamma,))
    by_unit = gamma * unit if quality == "cpm" else gamma
    (found,) = partition("leiden", affinity(matrix * unit), quality=quality, resolution=(by_unit,))
    np.testing.assert_array_equal(found.labels, usual.labels)
    assert 1 < found.k < 60
    assert found.diagnostics["quality"] == pytest.approx(usual.diagnostics["quality"], rel=1e-12)


def test_leiden_uses_only_its_own_random_generator() -> None:
    """python-igraph draws from the generator of the standard library or from a given one."""
    dice = Counted()
    igraph.set_random_number_generator(dice)
    try:
        partition("leiden", affinity(random_weights(30, 0)))
        assert dice.rolls == 0
        igraph.Graph.Erdos_Renyi(n=9, p=0.5)
        assert dice.rolls > 0  # it would have been seen
    finally:
        igraph.set_random_number_generator(random)


# ----------------------------------------------------------------------------------------------------------------------
# MDL merging
# ----------------------------------------------------------------------------------------------------------------------


def description_length(active: np.ndarray, labels: np.ndarray, alpha: float) -> float:
    """Bits per observation, by definition: every active group is named, and costs alpha per unit."""
    groups = [labels == label for label in np.unique(labels)]
    bits = [active[:, g].any(axis=1).mean() * (math.log2(len(groups)) + alpha * g.sum()) for g in groups]
    return float(sum(bits))


def sparse_activity(n: int, observations: int, seed: int, rate: float = 0.2) -> np.ndarray:
    active: np.ndarray = np.random.default_rng(seed).random((observations, n)) < rate
    return active


@given(st.integers(0, 1000), st.sampled_from([0.2, 1.0, 3.0]), st.sampled_from([0.0, 0.1]))
def test_the_reported_description_length_follows_the_definition(seed: int, alpha: float, threshold: float) -> None:
    active = sparse_activity(7, 40, seed)
    active[:2] = [[True], [False]]  # nobody is constant
    (found,) = partition("mdl_merge", spins(active), alpha=alpha, threshold=threshold, seed=seed)
    assert found.diagnostics["mdl"] == pytest.approx(description_length(active, found.labels, alpha))
    assert found.diagnostics["mdl_singletons"] == pytest.approx(description_length(active, np.arange(7), alpha))
    assert found.diagnostics["mdl"] <= found.diagnostics["mdl_singletons"] + 1e-9
    assert found.k == len(found.groups())


@pytest.mark.parametrize("alpha", [0.3, 1.0, 2.0])
@pytest.mark.parametrize("seed", range(3))
def test_merging_follows_the_greedy_definition(seed: int, alpha: float) -> None:
    """Every step tries all merges and measures their descriptions; the result is the shortest of all steps."""
    active = sparse_activity(8, 300, seed) | sparse_activity(1, 300, seed + 50) * (np.arange(8) < 3)
    labels = np.arange(8)
    steps = [labels]
    while len(np.unique(labels)) > 1:
        pairs = itertools.combinations(np.unique(labels), 2)
        merged = [np.where(labels == j, i, labels) for i, j in pairs]
        labels = min(merged, key=lambda tried: description_length(active, tried, alpha))
        steps.append(labels)
    expected = min(steps, key=lambda tried: description_length(active, tried, alpha))
    (found,) = partition("mdl_merge", spins(active), alpha=alpha)
    assert adjusted_rand_score(expected, found.labels) == 1.0


def test_units_that_are_always_active_together_are_merged_into_the_shortest_description() -> None:
    """Three mechanisms of two units each, never two at once: none of the 203 partitions has a shorter description."""
    mechanism = np.random.default_rng(0).permutation(np.repeat(np.arange(5), 12))  # 3 and 4: nothing is active
    blocks = np.array([0, 1, 2, 2, 1, 0])
    active = mechanism[:, None] == blocks[None, :]
    (found,) = partition("mdl_merge", spins(active))
    assert adjusted_rand_score(blocks, found.labels) == 1.0
    shortest = min(description_length(active, labels, 1.0) for labels in all_partitions(6))
    assert found.diagnostics["mdl"] == pytest.approx(shortest)
    assert found.diagnostics["mdl"] == pytest.approx(3 * 0.2 * (math.log2(3) + 2))


def test_units_that_never_change_are_in_no_group_and_change_nothing() -> None:
    active = sparse_activity(6, 100, 1)
    (alone,) = partition("mdl_merge", spins(active))
    on, off = np.ones((100, 1), dtype=bool), np.zeros((100, 1), dtype=bool)
    (found,) = partition("mdl_merge", spins(np.hstack([on, active[:, :3], off, active[:, 3:]])))
    assert found.diagnostics["constant"] == ["L0H0", "L0H4"]
    assert found.labels[[0, 4]].tolist() == [-1, -1]
    np.testing.assert_array_equal(found.labels[[1, 2, 3, 5, 6, 7]], alone.labels)
    assert found.diagnostics["mdl"] == alone.diagnostics["mdl"]


def test_fewer_than_two_units_that_change_are_refused() -> None:
    active = np.zeros((10, 3), dtype=bool)
    with pytest.raises(HarnessError, match="0 of 3 units ever change"):
        partition("mdl_merge", spins(active))
    active[3, 1] = True
    with pytest.raises(HarnessError, match="1 of 3 units ever change"):
        partition("mdl_merge", spins(active))


def test_the_seed_matters_only_with_a_threshold() -> None:
    sample = spins(sparse_activity(20, 60, 2))
    assert len({tuple(partition("mdl_merge", sample, seed=seed)[0].labels) for seed in range(4)}) == 1
    drawn = {tuple(partition("mdl_merge", sample, seed=seed, threshold=0.5)[0].labels) for seed in range(4)}
    assert len(drawn) > 1
    again = [partition("mdl_merge", sample, seed=3, threshold=0.5)[0].labels for _ in range(2)]
    np.testing.assert_array_equal(*again)


@pytest.mark.parametrize("wrong", [{"alpha": 0.0}, {"alpha": math.nan}, {"threshold": -0.1}, {"threshold": 1.1}])
def test_invalid_parameters_of_mdl_merge_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(HarnessError, match=f"partitioner.{next(iter(wrong))}="):
        partition("mdl_merge", spins(sparse_activity(4, 20, 0)), **wrong)


# ----------------------------------------------------------------------------------------------------------------------
# Agglomerative
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["average", "complete", "single"])
@pytest.mark.parametrize("seed", range(3))
def test_the_tree_is_that_of_scipy(how: str, seed: int) -> None:
    matrix = random_weights(25, seed)
    tree = linkage(squareform((matrix.max() - matrix) * complete(25)), how)
    found = partition("agglomerative", affinity(matrix), linkage=how, k=(7, 2, 12))
    assert [one.k for one in found] == [7, 2, 12]
    for one in found:
        assert adjusted_rand_score(fcluster(tree, one.k, "maxclust"), one.labels) == 1.0
        assert len(one.groups()) == one.k


@pytest.mark.parametrize("name", ["agglomerative", "spectral"])
def test_units_without_affinity_are_in_no_group(name: str) -> None:
    """Two pairs that are weakly linked, and three units that are like no other and not like each other."""
    matrix = np.zeros((7, 7))
    linked = [0, 2, 3, 5]
    matrix[np.ix_(linked, linked)] = 0.2 * complete(4)
    matrix[0, 2] = matrix[2, 0] = matrix[3, 5] = matrix[5, 3] = 1.0
    two, three, many = partition(name, affinity(matrix), k=(2, 3, 6))
    assert sorted(two.groups()) == [(0, 2), (3, 5)]
    assert len(three.groups()) == 3
    assert sorted(many.groups()) == [(0,), (2,), (3,), (5,)]
    for found in (two, three, many):
        assert set(np.flatnonzero(found.labels < 0)) == {1, 4, 6}
        assert found.diagnostics == {"isolated": ["L0H1", "L0H4", "L0H6"]}


@pytest.mark.parametrize("name", ["agglomerative", "spectral", "leiden", "eigengap"])
def test_isolated_units_are_never_a_group(name: str) -> None:
    """Three blocks without links between them, and units without any link: groups hold linked units only."""
    matrix = np.zeros((16, 16))
    for block in (slice(0, 4), slice(5, 9), slice(10, 14)):
        matrix[block, block] = complete(4)
    isolated = {4, 9, 14, 15}
    for found in partition(name, affinity(matrix), **({"k": (3,)} if name in ("agglomerative", "spectral") else {})):
        assert {unit for group in found.groups() for unit in group} == set(range(16)) - isolated
        assert sorted(found.groups()) == [tuple(range(0, 4)), tuple(range(5, 9)), tuple(range(10, 14))]
        assert found.diagnostics["isolated"] == [f"L0H{unit}" for unit in sorted(isolated)]


# ----------------------------------------------------------------------------------------------------------------------
# Elbow and top_k
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [16, 100, 144, 400])
def test_the_elbow_of_one_over_rank_is_at_the_square_root(n: int) -> None:
    """1/x falls as steeply as its chord from 1 to n where x = sqrt(n)."""
    rank = np.random.default_rng(n).permutation(n) + 1
    (found,) = partition("elbow", scores(1 / rank))
    assert found.groups() == [tuple(np.flatnonzero(rank < math.isqrt(n)))]
    assert found.setting == f"size = {math.isqrt(n) - 1}"
    assert found.diagnostics["score"] == 1 / math.isqrt(n)


@pytest.mark.parametrize("high", [1, 4, 12, 22])
def test_the_group_is_the_units_above_a_step(high: int) -> None:
    """For any number of units above the step, and for steps above or below zero."""
    values = np.where(np.arange(24) < high, 3.0, -2.0)
    assert partition("elbow", scores(values[::-1]))[0].groups() == [tuple(range(24 - high, 24))]


@pytest.mark.parametrize("corner", [2, 7, 15])
def test_the_elbow_is_the_corner_between_a_steep_line_and_a_flat_one(corner: int) -> None:
    steep, flat = 100 - 5.0 * np.arange(corner), 100 - 5.0 * corner - 0.1 * np.arange(20)
    (found,) = partition("elbow", scores(np.concatenate([steep, flat])))
    assert found.groups() == [tuple(range(corner))]


@pytest.mark.parametrize(
    "values", [[1.0] * 5, [2.0, 1.0], [5.0, 4.0, 3.0, 2.0], [0.3, 0.2, 0.1, 0.0], [9.0, 8.5, 8.0, 1.0], [1.0]]
)
def test_curves_without_an_elbow_are_refused(values: list[float]) -> None:
    with pytest.raises(HarnessError, match=r"no elbow|all scores are equal"):
        partition("elbow", scores(values))


@given(hnp.arrays(np.int64, st.integers(3, 40), elements=st.integers(-50, 50)), st.integers(-1000, 1000), st.randoms())
def test_the_elbow_does_not_depend_on_order_scale_or_offset(values: np.ndarray, origin: int, shuffle: Any) -> None:
    try:
        (found,) = partition("elbow", scores(values))
    except HarnessError:
        return
    order = np.array(shuffle.sample(range(len(values)), len(values)))
    (again,) = partition("elbow", scores(4.0 * values[order] + origin))
    np.testing.assert_array_equal(found.labels[order], again.labels)
    inside = found.labels == 0
    assert values[inside].min() > values[~inside].max()


@given(hnp.arrays(np.int64, st.integers(6, 30), elements=st.integers(-5, 5)))
def test_the_highest_scores_are_taken_and_ties_are_named(values: np.ndarray) -> None:
    for size, found in zip((5, 1), partition("top_k", scores(values), sizes=(5, 1)), strict=True):
        (members,) = found.groups()
        rest = np.setdiff1d(np.arange(len(values)), members)
        assert (len(members), found.k, found.setting) == (size, 1, f"size = {size}")
        assert values[list(members)].min() >= values[rest].max()
        tied = [f"L0H{i}" for i in rest if values[i] == values[list(members)].min()]
        assert found.diagnostics["tied"] == tied


def test_equal_scores_are_ordered_by_layer_and_index() -> None:
    units = UnitSpace(tuple(UnitSpace.heads([2, 2]).units[i] for i in (3, 1, 2, 0)))
    (found,) = partition("top_k", Scores(np.array([1.0, 1.0, 1.0, 0.0]), units), sizes=(2,))
    assert units.names(found.groups()[0]) == ["L0H1", "L1H0"]
    assert found.diagnostics["tied"] == ["L1H1"]


@pytest.mark.parametrize(("wrong", "says"), [([], r"sizes=\[\]"), ([0], r"sizes\.0=0"), ([4, -1], r"sizes\.1=-1")])
def test_invalid_sizes_are_refused(wrong: list[int], says: str) -> None:
    with pytest.raises(HarnessError, match=rf"partitioner\.{says}"):
        partition("top_k", scores(np.arange(9)), sizes=wrong)


def test_a_group_of_all_units_is_refused_with_the_allowed_sizes() -> None:
    with pytest.raises(HarnessError, match="12 of 9 units are not a selection") as caught:
        partition("top_k", scores(np.arange(9)))
    assert "'partitioner.sizes=[4,8]'" in caught.value.fix


# ----------------------------------------------------------------------------------------------------------------------
# Baselines and the ceiling
# ----------------------------------------------------------------------------------------------------------------------


@given(st.integers(2, 40), st.integers(0, 5))
def test_random_groups_are_of_nearly_equal_size(n: int, seed: int) -> None:
    wanted = [n, 2, max(2, n // 3)]
    found = partition("random", UnitSpace.heads([n]), k=wanted, seed=seed)
    assert [one.k for one in found] == wanted
    for one in found:
        sizes = [len(group) for group in one.groups()]
        assert len(sizes) == one.k
        assert sum(sizes) == n
        assert max(sizes) - min(sizes) <= 1


def test_random_groups_differ_between_seeds_and_numbers_of_groups() -> None:
    units = UnitSpace.heads([8, 8])
    first, again = partition("random", units, k=(4, 8), seed=0)
    other, _ = partition("random", units, k=(4, 8), seed=1)
    assert (first.labels != other.labels).any()
    assert (first.labels != again.labels % 4).any()
    assert (partition("random", units, k=(8, 4), seed=0)[1].labels == first.labels).all()


def test_layers_are_groups() -> None:
    units = UnitSpace(tuple(UnitSpace.heads([2, 0, 3]).units[i] for i in (4, 0, 2, 3, 1)))
    (found,) = partition("layers", units)
    assert found.k == 2
    assert [units.names(group) for group in found.groups()] == [["L0H0", "L0H1"], ["L2H2", "L2H0", "L2H1"]]


CLASSES = ("self", None, UNCLASSIFIED, "local", "self", UNCLASSIFIED)


def test_the_groups_of_the_oracle_are_the_classes() -> None:
    (found,) = partition("oracle", Labels(CLASSES, UnitSpace.heads([6])), None)
    assert (found.k, found.labels.tolist()) == (2, [1, -1, -1, 0, 1, -1])
    assert found.diagnostics["classes"] == ["local", "self"]
    (found,) = partition("oracle", Labels(CLASSES, UnitSpace.heads([6])), None, unclassified="group")
    assert (found.k, found.labels.tolist()) == (3, [1, -1, 2, 0, 1, 2])


def test_the_oracle_takes_the_truth_and_leaves_out_classes_that_are_no_circuits() -> None:
    labels = Labels(CLASSES, UnitSpace.heads([6]), circuits=frozenset({"self", "a circuit without units"}))
    (found,) = partition("oracle", Labels((None,) * 6, UnitSpace.heads([6])), labels)
    assert (found.k, found.labels.tolist()) == (1, [0, -1, -1, -1, 0, -1])


@pytest.mark.parametrize(
    ("classes", "parameters"),
    [((None, None), {}), ((UNCLASSIFIED, None), {}), ((None, None), {"unclassified": "group"})],
)
def test_an_oracle_without_known_classes_is_refused(
    classes: tuple[str | None, ...], parameters: dict[str, Any]
) -> None:
    with pytest.raises(HarnessError, match="no unit has a class") as caught:
        partition("oracle", Labels(classes, UnitSpace.heads([2])), None, **parameters)
    assert "labels=survey" in caught.value.fix


# ----------------------------------------------------------------------------------------------------------------------
# What they share
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "expected"),
    [
        (2, [2]),
        (5, [2]),
        (7, [3]),
        (8, [4]),
        (16, [4, 6, 8]),
        (32, [4, 6, 8, 12, 16]),
        (120, [8, 12, 16, 24, 32, 48]),
        (256, [16, 24, 32, 48, 64, 96, 128]),
        (270, [24, 32, 48, 64, 96, 128]),
    ],
)
def test_numbers_of_groups_follow_the_number_of_units(n: int, expected: list[int]) -> None:
    """By hand, from 2, 3, 4, 6, 8, 12, 16, ...: those of at least 4 and n / 16, and at most n / 2."""
    assert [found.k for found in partition("random", UnitSpace.heads([n]))] == expected


@pytest.mark.parametrize("name", ["agglomerative", "spectral"])
def test_the_scaled_numbers_are_those_of_every_partitioner_with_numbers(name: str) -> None:
    matrix = np.random.default_rng(0).random((40, 40))
    found = partition(name, affinity((matrix + matrix.T) * (1 - np.eye(40))))
    assert [one.k for one in found] == [one.k for one in partition("random", UnitSpace.heads([40]))]


@given(st.integers(8, 100_000))
def test_groups_of_scaled_numbers_have_two_to_sixteen_units_on_average(n: int) -> None:
    ks = numbers_of_groups(None, n)
    assert 1 <= len(ks) <= 7
    assert all(2 <= n / k <= max(16, n / 4) and k >= 4 for k in ks)
    assert all(after / before in (4 / 3, 3 / 2) for before, after in itertools.pairwise(ks))


@pytest.mark.parametrize("name", ["agglomerative", "random"])
@pytest.mark.parametrize(("wrong", "says"), [([], r"k=\[\]"), ([1], r"k\.0=1"), ([4, 0], r"k\.1=0")])
def test_invalid_numbers_of_groups_are_refused(name: str, wrong: list[int], says: str) -> None:
    with pytest.raises(HarnessError, match=rf"partitioner\.{says}"):
        partition(name, affinity(complete(4)), k=wrong)


@pytest.mark.parametrize(
    ("name", "given"), [("agglomerative", affinity(complete(6))), ("random", UnitSpace.heads([6]))]
)
def test_more_groups_than_units_are_refused_with_the_allowed_numbers(name: str, given: Any) -> None:
    with pytest.raises(HarnessError, match="12 groups cannot be made of 6 units") as caught:
        partition(name, given, k=[2, 4, 12])
    assert "partitioner.k=[2,4]" in caught.value.fix


@pytest.mark.parametrize("name", ["eigengap", "agglomerative"])
def test_negative_affinities_are_refused_with_the_transforms_to_use(name: str) -> None:
    parameters = {"k": [2]} if name == "agglomerative" else {}
    with pytest.raises(HarnessError, match=f"partitioner {name} needs non-negative") as caught:
        partition(name, affinity(-complete(4)), **parameters)
    assert "affinity.transform=abs" in caught.value.fix


@pytest.mark.parametrize("name", ["eigengap", "agglomerative", "leiden"])
def test_units_without_any_affinity_are_refused(name: str) -> None:
    with pytest.raises(HarnessError, match=r"no two units have any affinity|no affinity is positive"):
        partition(name, affinity(np.zeros((12, 12))))


@pytest.mark.parametrize("name", ["agglomerative", "spectral"])
def test_a_sparse_affinity_has_the_same_isolated_units(name: str) -> None:
    matrix = np.zeros((6, 6))
    matrix[np.ix_([0, 2, 5], [0, 2, 5])] = complete(3)
    sparse = Affinity(scipy.sparse.csr_array(matrix), affinity(matrix).units)
    assert sparse.isolated.tolist() == affinity(matrix).isolated.tolist() == [False, True, False, True, True, False]
    for dense, other in zip(partition(name, affinity(matrix), k=(2,)), partition(name, sparse, k=(2,)), strict=True):
        np.testing.assert_array_equal(dense.labels, other.labels)


# ----------------------------------------------------------------------------------------------------------------------
# Threshold and size_matched
# ----------------------------------------------------------------------------------------------------------------------


@given(hnp.arrays(np.int64, st.integers(1, 30), elements=st.integers(-5, 5)), st.integers(-6, 6))
def test_all_units_that_reach_the_threshold_are_the_group(values: np.ndarray, at: int) -> None:
    (found,) = partition("threshold", scores(values), at=at)
    assert [unit for group in found.groups() for unit in group] == [i for i, x in enumerate(values) if x >= at]
    assert found.trivial == (len({bool(x >= at) for x in values}) == 1)
    assert found.diagnostics["highest"] == max(values)


@given(st.integers(0, 2**32 - 1), st.integers(1, 12))
def test_a_ranking_is_cut_where_as_many_units_reach_the_selectivity(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    units, ranks = UnitSpace.heads([n]), rng.integers(0, 4, n)
    selectivity = {"induction": rng.integers(0, 3, n) * 30.0, "self": rng.integers(0, 3, n) * 30.0}
    labels = Labels((None,) * n, units, selectivity)
    for of in (None, "induction", "self"):
        reach = int((selectivity[of or "induction"] >= 30).sum())
        (found,) = partition("size_matched", Scores(ranks.astype(float), units), labels, of=of, at=30)
        assert sorted(np.flatnonzero(found.labels == 0)) == sorted(
            sorted(range(n), key=lambda i: (-ranks[i], i))[:reach]
        )
        assert found.diagnostics["class"] == (of or "induction")
        assert found.trivial == (reach in (0, n))


def test_ranked_by_selectivity_the_size_matched_group_is_the_screen() -> None:
    """Whatever the best class of a unit."""
    units, own = UnitSpace.heads([3, 3]), np.array([120.0, 3.0, 55.0, 10.0, 0.0, 55.0])
    labels = Labels(("self",) * 6, units, {"induction": own, "self": 10 * own + 1})
    for at in (2, 10, 30, 55, 100):
        screen = partition("threshold", Scores(own, units), at=at)[0].labels
        np.testing.assert_array_equal(partition("size_matched", Scores(own, units), labels, at=at)[0].labels, screen)


def test_size_matched_needs_selectivities_of_the_class() -> None:
    units = UnitSpace.heads([3])
    with pytest.raises(HarnessError, match="the labels have no selectivities") as caught:
        partition("size_matched", scores(np.arange(3)), Labels((None,) * 3, units))
    assert "labels=survey" in caught.value.fix
    labels = Labels((None,) * 3, units, {"key": np.ones(3), "self": np.ones(3)})
    with pytest.raises(HarnessError, match=r"partitioner\.of=kye: the labels have no such class") as caught:
        partition("size_matched", scores(np.arange(3)), labels, of="kye")
    assert caught.value.fix == "Their classes: key, self."


def test_a_single_unit_before_the_elbow_is_named_degenerate() -> None:
    (found,) = partition("elbow", scores([9.0, *[1.0] * 20]))
    assert found.groups() == [(0,)]
    assert found.diagnostics["degenerate"] == "one unit lies before the elbow"
    assert "degenerate" not in partition("elbow", scores([9.0, 8.9, *[1.0] * 20]))[0].diagnostics
