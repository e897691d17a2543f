"""Selected groups: sizes, order, ties, and groups without outside affinity."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array
from scipy.stats import ttest_ind

from harness.data.grouping import Affinity, Candidate, Partition, isolation
from harness.data.units import UnitSpace
from harness.registry.config import registry
from harness.util.errors import HarnessError

OFFERED = registry()

# Groups of 3, 2, 5, 3 and 1 units, their members scattered; one unit is in no group.
LABELS = np.array([2, 0, 1, 2, 3, 0, -1, 2, 3, 1, 2, 0, 3, 2, 4])
GROUPS = {
    0: (1, 5, 11),
    1: (2, 9),
    2: (0, 3, 7, 10, 13),
    3: (4, 8, 12),
    4: (14,),
}


def select(
    name: str, affinity: Affinity | None = None, labels: np.ndarray = LABELS, **parameters: Any
) -> list[Candidate]:
    selector = OFFERED.get("selector", name).build(parameters)
    partition = Partition(5, labels)
    found: list[Candidate] = selector(partition) if affinity is None else selector(partition, affinity)
    return found


def members(found: list[Candidate]) -> list[tuple[int, ...]]:
    return [candidate.members for candidate in found]


def affinity(within: dict[int, float], between: float = 1.0) -> Affinity:
    """Affinity ``within[g]`` inside group g, and ``between`` for all other pairs."""
    strength = np.array([within.get(int(label), between) for label in LABELS])
    matrix = np.where(LABELS[:, None] == LABELS, strength[:, None], between)
    np.fill_diagonal(matrix, 0.0)
    return Affinity(matrix, UnitSpace.heads([len(LABELS)]))


labellings = st.lists(st.integers(-1, 4), min_size=2, max_size=12).map(np.array)

# ----------------------------------------------------------------------------------------------------------------------
# By size
# ----------------------------------------------------------------------------------------------------------------------


def test_the_largest_groups_come_first_and_ties_go_to_the_lower_label() -> None:
    assert members(select("largest", count=1)) == [GROUPS[2]]
    assert members(select("largest")) == [GROUPS[2], GROUPS[0], GROUPS[3]]  # at most three
    found = select("largest", count=9)
    assert members(found) == [GROUPS[2], GROUPS[0], GROUPS[3], GROUPS[1]]
    assert [candidate.score for candidate in found] == [5.0, 3.0, 3.0, 2.0]


def test_the_largest_groups_are_chosen_among_the_allowed_sizes() -> None:
    assert members(select("largest", max_size=4, count=1)) == [GROUPS[0]]
    assert members(select("largest", max_size=2, min_size=1, count=3)) == [GROUPS[1], GROUPS[4]]
    assert select("largest", min_size=6) == []


def test_all_groups_of_a_range_of_sizes_are_tested_larger_first() -> None:
    assert members(select("size_range", min_size=2, max_size=3)) == [GROUPS[0], GROUPS[3], GROUPS[1]]
    assert members(select("size_range", min_size=4)) == [GROUPS[2]]
    assert members(select("size_range")) == [GROUPS[2], GROUPS[0], GROUPS[3], GROUPS[1]]  # 2 to 12 units
    assert select("size_range", min_size=6, max_size=9) == []


def test_every_group_selects_all_groups_in_the_order_of_labels() -> None:
    assert members(select("every_group")) == list(GROUPS.values())
    assert select("every_group", labels=np.full(6, -1)) == []


@given(labellings, st.integers(1, 4), st.integers(0, 4))
def test_groups_are_selected_by_size_alone(labels: np.ndarray, low: int, more: int) -> None:
    """Brute force: every group of the partition is in the selection if and only if its size is allowed."""
    wanted = {
        tuple(np.flatnonzero(labels == g).tolist())
        for g in set(labels.tolist()) - {-1}
        if low <= (labels == g).sum() <= low + more
    }
    sizes = {"min_size": low, "max_size": low + more}
    for found in (select("size_range", labels=labels, **sizes), select("largest", labels=labels, count=99, **sizes)):
        assert set(members(found)) == wanted
        assert len(found) == len(wanted)
        assert [c.score for c in found] == sorted((float(len(m)) for m in wanted), reverse=True)


# ----------------------------------------------------------------------------------------------------------------------
# By isolation
# ----------------------------------------------------------------------------------------------------------------------


def test_groups_are_ranked_by_affinity_inside_over_affinity_to_the_outside() -> None:
    found = select("most_isolated", affinity({0: 2.0, 1: 5.0, 2: 3.0, 3: 4.0}), min_size=2, count=9)
    assert members(found) == [GROUPS[1], GROUPS[3], GROUPS[2], GROUPS[0]]
    assert [candidate.score for candidate in found] == pytest.approx([5.0, 4.0, 3.0, 2.0])
    one = select("most_isolated", affinity({0: 2.0, 1: 5.0, 2: 3.0, 3: 4.0}), min_size=3, count=1)
    assert members(one) == [GROUPS[3]]


@pytest.mark.parametrize("name", ["most_isolated", "most_separated"])
def test_groups_of_two_to_twelve_units_qualify_and_three_are_selected(name: str) -> None:
    graph = affinity({0: 9.0, 1: 9.0, 2: 9.0, 3: 9.0})
    assert len(select(name, graph)) == 3
    assert set(members(select(name, graph, count=9))) == {GROUPS[g] for g in range(4)}
    assert members(select(name, graph, min_size=4)) == [GROUPS[2]]
    assert select(name, affinity({}), min_size=6) == []
    together = np.where(np.arange(15) < 13, 0, 1)
    assert members(select(name, graph, labels=together)) == [(13, 14)]


def test_isolation_uses_absolute_affinity() -> None:
    graph = affinity({0: -6.0, 3: 4.0}, between=-1.0)
    found = select("most_isolated", graph, min_size=3, max_size=3, count=2)
    assert members(found) == [GROUPS[0], GROUPS[3]]
    assert [candidate.score for candidate in found] == pytest.approx([6.0, 4.0])


def test_a_group_without_outside_affinity_is_the_most_isolated_and_has_no_finite_score() -> None:
    matrix = affinity({0: 0.001, 2: 50.0}).matrix.copy()
    apart = np.isin(np.arange(len(LABELS)), GROUPS[0])
    matrix[apart[:, None] != apart] = 0.0
    found = select("most_isolated", Affinity(matrix, UnitSpace.heads([len(LABELS)])), min_size=3, count=2)
    assert members(found) == [GROUPS[0], GROUPS[2]]
    assert found[0].score is None
    assert found[0].isolation is None
    json.dumps([candidate.score for candidate in found], allow_nan=False)


@pytest.mark.parametrize("name", ["most_isolated", "most_separated"])
def test_a_group_without_inside_affinity_is_not_selected(name: str) -> None:
    """Constant units have no affinity at all; a partitioner may put them into one group."""
    matrix = affinity({2: 3.0}).matrix.copy()
    idle = list(GROUPS[0])
    matrix[idle], matrix[:, idle] = 0.0, 0.0
    found = select(name, Affinity(matrix, UnitSpace.heads([len(LABELS)])), min_size=3, count=9)
    assert members(found) == [GROUPS[2], GROUPS[3]]


@pytest.mark.parametrize("name", ["most_isolated", "most_separated"])
def test_a_group_of_all_units_is_not_selected(name: str) -> None:
    affinity = Affinity(np.ones((5, 5)) - np.eye(5), UnitSpace.heads([5]))
    assert select(name, affinity, labels=np.zeros(5, dtype=np.int64)) == []


@pytest.mark.parametrize("name", ["most_isolated", "most_separated"])
def test_groups_with_equal_scores_are_ordered_by_label(name: str) -> None:
    assert members(select(name, affinity({}), count=9)) == [GROUPS[g] for g in range(4)]


@given(labellings, st.integers(0, 2**32 - 1))
def test_the_order_is_that_of_isolation_for_any_affinity(labels: np.ndarray, seed: int) -> None:
    noise = np.random.default_rng(seed).normal(size=(len(labels), len(labels)))
    matrix = noise + noise.T
    np.fill_diagonal(matrix, 0.0)
    affinity = Affinity(matrix, UnitSpace.heads([len(labels)]))
    found = select("most_isolated", affinity, labels=labels, min_size=2, count=99)
    scores = [candidate.score for candidate in found]
    assert scores == [isolation(candidate.members, matrix) for candidate in found]
    assert scores == sorted(scores, key=lambda score: -(score or 0.0))


# ----------------------------------------------------------------------------------------------------------------------
# By separation
# ----------------------------------------------------------------------------------------------------------------------


def noisy(n: int, seed: int) -> np.ndarray:
    """A symmetric matrix of normal numbers with zero diagonal."""
    noise = np.random.default_rng(seed).normal(size=(n, n))
    matrix: np.ndarray = noise + noise.T
    np.fill_diagonal(matrix, 0.0)
    return matrix


@given(labellings, st.integers(0, 2**32 - 1))
def test_separation_is_students_t_of_pairs_inside_against_pairs_to_the_outside(labels: np.ndarray, seed: int) -> None:
    matrix = noisy(len(labels), seed)
    found = select("most_separated", Affinity(matrix, UnitSpace.heads([len(labels)])), labels=labels, count=99)
    groups = [np.flatnonzero(labels == g) for g in set(labels.tolist()) - {-1}]
    assert len(found) == sum(2 <= len(group) < len(labels) for group in groups)
    for candidate in found:
        inside = np.isin(np.arange(len(labels)), candidate.members)
        within = np.abs(matrix[np.ix_(inside, inside)][np.triu_indices(inside.sum(), 1)])
        across = np.abs(matrix[np.ix_(inside, ~inside)]).ravel()
        assert candidate.score == pytest.approx(ttest_ind(within, across).statistic)
    assert found == sorted(found, key=lambda candidate: -(candidate.score or 0.0))


@given(st.integers(0, 2**32 - 1))
def test_separation_is_the_same_for_sparse_affinities(seed: int) -> None:
    matrix = noisy(len(LABELS), seed)
    matrix[np.abs(matrix) < 1.5] = 0.0
    units = UnitSpace.heads([len(LABELS)])
    dense, sparse = (select("most_separated", Affinity(kind(matrix), units), count=9) for kind in (np.array, csr_array))
    assert dense == sparse


def test_four_units_with_six_strong_links_come_before_two_with_a_stronger_one() -> None:
    """Isolation compares means only, so it prefers the pair."""
    labels = np.array([0, 0, 1, 1, 1, 1, *[-1] * 14])
    same = (labels[:, None] == labels) & (labels >= 0)
    matrix = np.abs(noisy(20, 0)) / 2 + np.where(same, np.where(labels == 0, 3.0, 2.5), 0.0)
    np.fill_diagonal(matrix, 0.0)
    graph = Affinity(matrix, UnitSpace.heads([20]))
    assert members(select("most_isolated", graph, labels=labels)) == [(0, 1), (2, 3, 4, 5)]
    assert members(select("most_separated", graph, labels=labels)) == [(2, 3, 4, 5), (0, 1)]


def test_separation_without_any_variance_is_not_finite_and_comes_first() -> None:
    found = select("most_separated", affinity({0: 0.3, 1: 0.1, 2: 0.1, 3: 0.1}, between=0.1), count=9)
    assert [(candidate.members, candidate.score) for candidate in found] == [
        (GROUPS[0], None),
        (GROUPS[1], 0.0),
        (GROUPS[2], 0.0),
        (GROUPS[3], 0.0),
    ]


# ----------------------------------------------------------------------------------------------------------------------
# What makes no sense
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("largest", {"min_size": 0}),
        ("largest", {"min_size": 4, "max_size": 3}),
        ("largest", {"max_size": 0}),
        ("largest", {"count": 0}),
        ("most_isolated", {"min_size": 1}),
        ("most_isolated", {"min_size": 13}),
        ("most_isolated", {"count": 0}),
        ("size_range", {"min_size": 0}),
        ("size_range", {"min_size": 4, "max_size": 3}),
        ("most_separated", {"min_size": 1}),
        ("most_separated", {"min_size": 13}),
        ("most_separated", {"count": 0}),
    ],
)
def test_invalid_parameters_are_refused(name: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(HarnessError, match=f"selector.*{next(iter(wrong))}="):
        OFFERED.get("selector", name).build(wrong)
