"""Each chooser against theory, an independent implementation, or its definition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import igraph
import numpy as np
import pytest
import scipy.linalg
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import silhouette_samples

from harness.data.grouping import Affinity, Agreement, Labels, Partition, Stability
from harness.data.units import UnitSpace
from harness.registry.config import registry
from harness.util.errors import HarnessError

Scores = Sequence[float | None]
OFFERED = registry()


def affinity(matrix: Any) -> Affinity:
    matrix = np.array(matrix, dtype=np.float64)
    np.fill_diagonal(matrix, 0.0)
    return Affinity(matrix, UnitSpace.heads([len(matrix)]))


def partition(*labels: int, k: int | None = None, stability: Stability | None = None) -> Partition:
    found = np.array(labels)
    return Partition(len(set(labels) - {-1}) if k is None else k, found, stability=stability)


def choose(name: str, partitions: Sequence[Partition], graph: Affinity | None = None, **parameters: Any) -> Scores:
    chooser = OFFERED.get("chooser", name).build(parameters)
    scores: Scores = chooser(partitions) if graph is None else chooser(partitions, graph)
    return scores


def blocks(sizes: Sequence[int], within: float = 1.0, between: float = 0.0) -> tuple[Affinity, np.ndarray]:
    """The affinity of units ordered by block, high within blocks; and the block of each unit."""
    block = np.repeat(np.arange(len(sizes)), sizes)
    return affinity(np.where(block[:, None] == block, within, between)), block


def into(k: int, n: int) -> Partition:
    """A partition of n units into k groups."""
    return partition(*(np.arange(n) % k).tolist())


@st.composite
def matrices(draw: st.DrawFn, low: float = -1.0) -> Affinity:
    """Symmetric, of 2 to 8 units; some have no neighbour."""
    n = draw(st.integers(2, 8))
    entries = st.floats(low, 1.0, allow_nan=False).map(lambda x: 0.0 if abs(x) < 0.1 else x)
    upper = np.triu(draw(hnp.arrays(np.float64, (n, n), elements=entries)), 1)
    return affinity(upper + upper.T)


def labelled(n: int) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(-1, 3), min_size=n, max_size=n)


# ----------------------------------------------------------------------------------------------------------------------
# All that look at the affinity
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["eigengap", "modularity", "silhouette"])
@pytest.mark.parametrize("sizes", [[9, 9], [5, 7, 6], [6, 6, 6, 6]])
def test_the_planted_number_of_groups_is_chosen(name: str, sizes: list[int]) -> None:
    clean, _ = blocks(sizes, 1.0, 0.1)
    noise = np.random.default_rng(0).random(clean.matrix.shape) / 20
    given = affinity(clean.matrix + noise + noise.T)
    partitions = OFFERED.get("partitioner", "spectral").build({"k": [2, 3, 4, 5, 6]})(given)
    scores = choose(name, partitions, given)
    assert max(zip(scores, partitions, strict=True), key=lambda pair: pair[0])[1].k == len(sizes)


@pytest.mark.parametrize("name", ["eigengap", "modularity", "silhouette"])
@given(st.data())
def test_quality_does_not_depend_on_the_order_of_units_or_the_labels_of_groups(name: str, data: st.DataObject) -> None:
    graph = data.draw(matrices(low=0.0 if name == "eigengap" else -1.0))
    n = len(graph.units)
    labels = np.array(data.draw(labelled(n)))
    order = data.draw(st.permutations(range(n)))
    names = np.array([*data.draw(st.permutations(range(5)))[:4], -1])  # -1 stays what it is
    (straight,) = choose(name, [Partition(4, labels)], graph)
    shuffled = Affinity(graph.matrix[np.ix_(order, order)], UnitSpace(tuple(graph.units.units[i] for i in order)))
    (other,) = choose(name, [Partition(4, names[labels][list(order)])], shuffled)
    assert other == (None if straight is None else pytest.approx(straight, abs=1e-9))


# ----------------------------------------------------------------------------------------------------------------------
# A number given in advance
# ----------------------------------------------------------------------------------------------------------------------


def test_fixed_chooses_the_partition_with_the_requested_number_of_groups() -> None:
    two, three = partition(0, 0, 1, 1), partition(0, 0, 1, 2)
    assert choose("fixed", [two, three], k=3) == [None, 1.0]
    assert choose("fixed", [three, two], k=2) == [None, 1.0]


def test_fixed_prefers_the_requested_number_over_the_number_found() -> None:
    requested, found = partition(0, 0, 1, 2, k=2), partition(0, 0, 1, 1, k=5)
    assert choose("fixed", [found, requested], k=2) == [None, 1.0]
    assert choose("fixed", [found], k=2) == [1.0]


def test_fixed_scores_all_partitions_with_that_number_equally() -> None:
    assert choose("fixed", [partition(0, 0, 1), partition(0, 1, 2), partition(0, 1, 1)], k=2) == [1.0, None, 1.0]


def test_a_number_of_groups_without_a_partition_is_refused_with_the_available_numbers() -> None:
    with pytest.raises(HarnessError) as caught:
        choose("fixed", [into(6, 12), into(4, 12)], k=7)
    assert caught.value.what == "chooser.k=7: there is no partition with this number of groups (partitions: [4, 6])."
    assert caught.value.fix == (
        "If the partitioner has numbers of groups, add it: 'partitioner.k=[7]'. Use a number that exists: chooser.k=4."
    )


def test_fixed_never_chooses_a_trivial_partition() -> None:
    with pytest.raises(HarnessError, match=r"chooser.k=2: there is no partition .*\(partitions: \[3\]\)"):
        choose("fixed", [partition(0, 0, 0, 0, k=2), into(3, 4)], k=2)


def test_a_partition_has_at_least_one_group() -> None:
    with pytest.raises(HarnessError, match=r"chooser\.k=0"):
        choose("fixed", [into(2, 4)], k=0)


# ----------------------------------------------------------------------------------------------------------------------
# A size of groups given in advance
# ----------------------------------------------------------------------------------------------------------------------


def test_group_size_counts_doublings_of_the_mean_size() -> None:
    assert choose("group_size", [into(k, 16) for k in (2, 4, 8)]) == [-1.0, 0.0, -1.0]  # 8, 4 and 2 units per group
    assert choose("group_size", [into(k, 16) for k in (2, 4, 8)], units=2) == [-2.0, -1.0, 0.0]


def test_units_in_no_group_do_not_count() -> None:
    assert choose("group_size", [partition(0, 0, 1, 1, -1, -1, -1)], units=2) == [0.0]


def test_group_size_never_chooses_a_trivial_partition() -> None:
    trivial = [partition(0, 0, 0, 0), into(4, 4), partition(-1, -1, -1)]
    assert choose("group_size", trivial, units=4) == [None, None, None]


@given(labelled(8), st.floats(1, 8))
def test_the_chosen_size_does_not_depend_on_which_units_are_together(labels: list[int], units: float) -> None:
    straight, reversed_ = partition(*labels), partition(*labels[::-1])
    assert choose("group_size", [straight], units=units) == choose("group_size", [reversed_], units=units)


# ----------------------------------------------------------------------------------------------------------------------
# Eigengap
# ----------------------------------------------------------------------------------------------------------------------


def test_the_eigengap_of_separate_cliques_is_at_their_number() -> None:
    """Each clique of m units has eigenvalues 0 and m / (m - 1), the second m - 1 times."""
    graph, _ = blocks([4, 4, 4])
    assert choose("eigengap", [into(k, 12) for k in (2, 3, 4)], graph) == pytest.approx([0.0, 4 / 3, 0.0], abs=1e-12)


def test_the_gaps_of_a_complete_bipartite_graph_are_both_one() -> None:
    """Its eigenvalues are 0, then 1 but for the last, then 2."""
    graph, _ = blocks([3, 4], within=0.0, between=0.7)
    gaps = choose("eigengap", [into(k, 7) for k in range(1, 7)], graph)
    assert gaps == pytest.approx([1.0, 0.0, 0.0, 0.0, 0.0, 1.0], abs=1e-12)


@given(matrices(low=0.0))
def test_gaps_are_those_of_the_generalised_eigenproblem(graph: Affinity) -> None:
    linked = graph.matrix[np.ix_(graph.matrix.any(axis=1), graph.matrix.any(axis=1))]
    n = len(linked)
    degree = np.diag(linked.sum(axis=1))
    values = scipy.linalg.eigh(degree - linked, degree, eigvals_only=True) if n else []
    labels = np.zeros(len(graph.units), dtype=np.int64)
    for k in range(1, n):
        labels[graph.matrix.any(axis=1)] = np.arange(n) % k
        (gap,) = choose("eigengap", [Partition(k, labels.copy())], graph)
        assert gap == pytest.approx(values[k] - values[k - 1], abs=1e-9)


def test_units_without_neighbours_are_ignored() -> None:
    graph, _ = blocks([4, 4, 1, 1])
    alone = partition(0, 0, 0, 0, 1, 1, 1, 1, 2, 3)
    together = partition(0, 0, 0, 0, 1, 1, 1, 1, 1, 1)
    nowhere = partition(0, 0, 0, 0, 1, 1, 1, 1, -1, -1)
    assert choose("eigengap", [alone, together, nowhere], graph) == pytest.approx([4 / 3] * 3)


def test_there_is_no_gap_without_groups_or_after_the_last_eigenvalue() -> None:
    graph, _ = blocks([2, 2])
    assert choose("eigengap", [partition(-1, -1, -1, -1), partition(0, 1, 2, 3)], graph) == [None, None]
    assert choose("eigengap", [partition(0, 0, 1, 1)], affinity(np.zeros((4, 4)))) == [None]


def test_an_eigengap_of_negative_affinities_is_refused() -> None:
    with pytest.raises(HarnessError, match="chooser eigengap needs non-negative") as caught:
        choose("eigengap", [into(2, 3)], affinity(-np.ones((3, 3))))
    assert "affinity.transform=abs" in caught.value.fix


# ----------------------------------------------------------------------------------------------------------------------
# Modularity
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("cliques", "size"), [(4, 3), (10, 5)])
def test_the_modularity_of_a_ring_of_cliques_is_the_published_one(cliques: int, size: int) -> None:
    """Q = 1 - 2 / (m (m - 1) + 2) - 1 / n for n cliques of m units, neighbours joined by one edge (Fortunato 2007)."""
    graph, block = blocks([size] * cliques)
    matrix = graph.matrix.copy()
    for i in range(cliques):
        here, there = i * size, (i + 1) % cliques * size + 1
        matrix[here, there] = matrix[there, here] = 1.0
    (found,) = choose("modularity", [partition(*block.tolist())], affinity(matrix))
    assert found == pytest.approx(1 - 2 / (size * (size - 1) + 2) - 1 / cliques)


def igraph_modularity(matrix: np.ndarray, labels: np.ndarray) -> float:
    """Units in no group as groups of their own."""
    single = np.where(labels < 0, 100 + np.arange(len(labels)), labels)
    graph = igraph.Graph.Weighted_Adjacency(matrix.tolist(), mode="undirected", attr="weight")
    return float(graph.modularity(single.tolist(), weights="weight"))


@given(st.data())
def test_modularity_is_that_of_igraph(data: st.DataObject) -> None:
    graph = data.draw(matrices(low=0.0).filter(lambda a: a.matrix.any()))
    labels = np.array(data.draw(labelled(len(graph.units))))
    (found,) = choose("modularity", [Partition(4, labels)], graph)
    assert found == pytest.approx(igraph_modularity(graph.matrix, labels), abs=1e-9)


@given(st.data())
def test_signed_modularity_is_the_weighted_difference_of_its_positive_and_negative_parts(data: st.DataObject) -> None:
    graph = data.draw(matrices().filter(lambda a: (a.matrix > 0).any() and (a.matrix < 0).any()))
    labels = np.array(data.draw(labelled(len(graph.units))))
    positive, negative = np.maximum(graph.matrix, 0), np.maximum(-graph.matrix, 0)
    up, down = positive.sum(), negative.sum()
    expected = up * igraph_modularity(positive, labels) - down * igraph_modularity(negative, labels)
    (found,) = choose("modularity", [Partition(4, labels)], graph)
    assert found == pytest.approx(expected / (up + down), abs=1e-9)


def test_modularity_separates_units_with_negative_affinity() -> None:
    graph, _ = blocks([2, 2], within=1.0, between=-1.0)
    apart, mixed = choose("modularity", [partition(0, 0, 1, 1), partition(0, 1, 0, 1)], graph)
    assert apart is not None
    assert mixed is not None
    assert apart > 0 > mixed


def test_one_group_of_all_units_has_modularity_zero_and_no_affinity_has_none() -> None:
    graph, _ = blocks([3, 3], 0.9, 0.2)
    assert choose("modularity", [partition(0, 0, 0, 0, 0, 0)], graph) == pytest.approx([0.0], abs=1e-12)
    assert choose("modularity", [into(2, 4), into(3, 4)], affinity(np.zeros((4, 4)))) == [None, None]


# ----------------------------------------------------------------------------------------------------------------------
# Silhouette
# ----------------------------------------------------------------------------------------------------------------------


def silhouette(matrix: np.ndarray, labels: np.ndarray) -> float:
    """By the definition, unit by unit."""
    members = np.flatnonzero(labels >= 0)
    found = []
    for i in members:
        apart = {
            g: [matrix.max() - matrix[i, j] for j in members if labels[j] == g and j != i] for g in labels[members]
        }
        inside = apart.pop(labels[i])
        a, b = float(np.mean(inside)) if inside else 0.0, min(float(np.mean(distances)) for distances in apart.values())
        found.append((b - a) / max(a, b) if inside and max(a, b) > 0 else 0.0)
    return float(np.mean(found))


def test_groups_of_maximal_internal_affinity_have_silhouette_one() -> None:
    graph, block = blocks([3, 4, 2], 0.8, 0.3)
    assert choose("silhouette", [partition(*block.tolist())], graph) == pytest.approx([1.0])


@given(st.data())
def test_the_silhouette_follows_its_definition(data: st.DataObject) -> None:
    graph = data.draw(matrices())
    labels = np.array(data.draw(labelled(len(graph.units))))
    groups, inside = len(set(labels[labels >= 0])), int((labels >= 0).sum())
    (found,) = choose("silhouette", [Partition(4, labels)], graph)
    if 2 <= groups < inside:
        assert found == pytest.approx(silhouette(graph.matrix, labels), abs=1e-9)
    else:
        assert found is None


def test_the_silhouette_ignores_units_in_no_group() -> None:
    rng = np.random.default_rng(3)
    matrix = rng.random((7, 7))
    graph = affinity((matrix + matrix.T) / 2)
    distance = graph.matrix.max() - graph.matrix
    np.fill_diagonal(distance, 0.0)
    expected = silhouette_samples(distance[:5, :5], [0, 0, 1, 1, 1], metric="precomputed").mean()
    assert choose("silhouette", [partition(0, 0, 1, 1, 1, -1, -1)], graph) == pytest.approx([expected])


def test_a_silhouette_needs_two_groups_and_two_units_in_one_of_them() -> None:
    graph, _ = blocks([2, 2], 0.9, 0.1)
    some = [partition(0, 0, 0, 0), partition(0, 1, 2, 3), partition(-1, -1, -1, -1), partition(0, 1, -1, -1)]
    assert choose("silhouette", some, graph) == [None] * 4


# ----------------------------------------------------------------------------------------------------------------------
# Stability
# ----------------------------------------------------------------------------------------------------------------------


def test_the_chooser_prefers_stability_under_resampling_over_stability_under_seeds() -> None:
    measured = [Stability(0.9, 0.3), Stability(0.8, None), Stability(None, 0.7), Stability(None, None), None]
    partitions = [partition(0, 0, 1, 1, stability=stability) for stability in measured]
    assert choose("stability", partitions) == [0.3, 0.8, 0.7, None, None]


def test_stability_that_was_not_measured_is_an_error() -> None:
    with pytest.raises(HarnessError, match="chooser stability needs reruns") as caught:
        choose("stability", [into(2, 4), into(3, 4)])
    assert "reruns=5" in caught.value.fix


def test_a_single_partition_needs_no_stability_to_be_chosen() -> None:
    assert choose("stability", [into(2, 4)]) == [None]


# ----------------------------------------------------------------------------------------------------------------------
# Labels
# ----------------------------------------------------------------------------------------------------------------------


def test_the_partition_that_agrees_best_with_the_labels_is_taken() -> None:
    """Adjusted Rand indices by Hubert & Arabie's formula, by hand: 1, 0, and 4/7 for one group split in two."""
    labels = Labels(("a", "a", "b", "b", None), UnitSpace.heads([5]))
    chooser = OFFERED.get("chooser", "labels").build({})
    partitions = [partition(0, 0, 1, 1, 0), partition(0, 0, 0, 0, 1), partition(0, 0, 1, 2, 2)]
    assert chooser(partitions, labels) == pytest.approx([1.0, 0.0, 4 / 7])


@pytest.mark.parametrize(
    ("classes", "says"),
    [
        ((None,) * 5, "0 of 5 units have a label, of 0 classes"),
        (("a", None, None, None, None), "1 of 5 units have a label, of 1 classes"),
        (("a", "b", None, None, None), "2 of 5 units have a label, of 2 classes"),
        (("a", "b", "c", None, None), "3 of 5 units have a label, of 3 classes"),
        (("a",) * 5, "5 of 5 units have a label, of 1 classes"),
    ],
)
def test_labels_that_divide_nothing_choose_nothing(classes: tuple[str | None, ...], says: str) -> None:
    """With them the index is 1 for some partition whatever the others are, or 0/0."""
    labels = Labels(classes, UnitSpace.heads([5]))
    chooser = OFFERED.get("chooser", "labels").build({})
    several = [partition(0, 0, 1, 1, 0), partition(0, 1, 2, 3, 4)]
    with pytest.raises(HarnessError, match=says) as caught:
        chooser(several, labels)
    assert "chooser=stability" in caught.value.fix
    assert chooser(several[:1], labels) == [None], "one partition needs no choice"
    assert Agreement.of(several[0], labels) is None
