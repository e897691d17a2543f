"""Spectral partitions and the paper's selection of groups: planted blocks, scores by hand, ties."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from harness.data.grouping import Affinity, Candidate, Labels, Partition, isolation, purity
from harness.data.units import UnitSpace
from harness.registry.config import registry
from harness.util.errors import HarnessError


def planted(sizes: list[int], within: float = 1.0, between: float = 0.05, seed: int = 0) -> tuple[Affinity, np.ndarray]:
    """Blocks of units in shuffled order, with noise; and the block of each unit."""
    rng = np.random.default_rng(seed)
    blocks = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    noise = 0.04 * rng.random((len(blocks), len(blocks)))
    matrix = np.where(blocks[:, None] == blocks[None, :], within, between) + noise + noise.T
    np.fill_diagonal(matrix, 0.0)
    return Affinity(matrix, UnitSpace.heads([len(blocks)])), blocks


def spectral(affinity: Affinity, **parameters: Any) -> list[Partition]:
    partitions: list[Partition] = registry().get("partitioner", "spectral").build(parameters)(affinity)
    return partitions


@pytest.mark.parametrize("sizes", [[8, 8], [4, 6, 9], [5, 5, 5, 5], [3, 12, 4]])
@pytest.mark.parametrize("seed", [0, 1])
def test_planted_blocks_are_found(sizes: list[int], seed: int) -> None:
    affinity, blocks = planted(sizes, seed=seed)
    (partition,) = spectral(affinity, k=[len(sizes)], seed=seed)
    assert adjusted_rand_score(blocks, partition.labels) == 1.0


def test_blocks_without_any_link_between_them_are_found() -> None:
    affinity, blocks = planted([5, 5, 5], between=0.0)
    matrix = np.where(blocks[:, None] == blocks[None, :], affinity.matrix, 0.0)
    (partition,) = spectral(Affinity(matrix, affinity.units), k=[3])
    assert adjusted_rand_score(blocks, partition.labels) == 1.0


def test_there_is_one_partition_per_number_of_groups_in_the_requested_order() -> None:
    affinity, _ = planted([6, 6, 6])
    partitions = spectral(affinity, k=[5, 2, 3])
    assert [partition.k for partition in partitions] == [5, 2, 3]
    assert [len(partition.groups()) for partition in partitions] == [5, 2, 3]


def test_more_groups_than_units_are_refused_with_the_allowed_numbers() -> None:
    affinity, _ = planted([3, 3])
    with pytest.raises(HarnessError, match="12 groups cannot be made of 6 units") as caught:
        spectral(affinity, k=[2, 4, 12])
    assert "partitioner.k=[2,4]" in caught.value.fix


def test_negative_affinities_are_refused_with_the_transforms_to_use() -> None:
    matrix = np.array([[0.0, -1.0, 1.0], [-1.0, 0.0, 1.0], [1.0, 1.0, 0.0]])
    with pytest.raises(HarnessError, match="non-negative") as caught:
        spectral(Affinity(matrix, UnitSpace.heads([3])), k=[2])
    assert "affinity.transform=abs" in caught.value.fix


def test_units_without_any_affinity_form_no_groups() -> None:
    with pytest.raises(HarnessError, match="nothing to cluster"):
        spectral(Affinity(np.zeros((6, 6)), UnitSpace.heads([6])), k=[2])


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"k": [1]}, r"k\.0=1"),
        ({"k": []}, r"k=\[\]"),
        ({"k": [4, 0]}, r"k\.1=0"),
        ({"k": 4}, "k=4"),
        ({"n_init": 0}, "n_init=0"),
        ({"offset": -1.0}, "offset=-1"),
    ],
)
def test_invalid_parameters_of_spectral_are_refused(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(HarnessError, match=rf"partitioner\.{says}"):
        spectral(planted([3, 3])[0], **wrong)


# ----------------------------------------------------------------------------------------------------------------------
# The paper's choice
# ----------------------------------------------------------------------------------------------------------------------

UNITS = UnitSpace.heads([10])
GROUPS = np.array([0, 0, 0, 0, 1, 1, 1, 1, 2, 2])
CLASSES = ("self", "self", "self", "local", "local", "local", None, None, "self", None)


def affinity(within: list[float], between: float = 1.0) -> Affinity:
    """Affinity ``within[g]`` inside group g, and ``between`` across groups."""
    same = GROUPS[:, None] == GROUPS[None, :]
    matrix = np.where(same, np.array(within)[GROUPS][:, None], between)
    np.fill_diagonal(matrix, 0.0)
    return Affinity(matrix, UNITS)


def choose(affinity: Affinity, classes: tuple[str | None, ...] = CLASSES, **parameters: Any) -> list[Candidate]:
    selector = registry().get("selector", "paper_score").build({"min_size": 2, "max_size": 4, **parameters})
    candidates: list[Candidate] = selector(Partition(3, GROUPS), affinity, Labels(classes, UNITS))
    return candidates


def test_the_score_is_purity_times_isolation_times_relative_size() -> None:
    candidates = choose(affinity([2.0, 3.0, 5.0]), count=3)
    found = {candidate.members: candidate for candidate in candidates}
    first, second, third = (found[members] for members in ((0, 1, 2, 3), (4, 5, 6, 7), (8, 9)))
    assert (first.purity, first.isolation, first.score) == pytest.approx((0.75, 2.0, 1.5))
    assert (second.purity, second.isolation, second.score) == pytest.approx((1.0, 3.0, 3.0))  # two known, both local
    assert (third.purity, third.isolation, third.score) == pytest.approx((1.0, 5.0, 2.5))  # half the largest size
    assert [candidate.score for candidate in candidates] == pytest.approx([3.0, 2.5, 1.5])


def test_groups_outside_the_allowed_sizes_do_not_compete() -> None:
    members = [c.members for c in choose(affinity([1.0, 1.0, 9.0]), min_size=3, count=9)]
    assert members == [(4, 5, 6, 7), (0, 1, 2, 3)]
    assert [c.members for c in choose(affinity([9.0, 9.0, 1.0]), max_size=3, count=9)] == [(8, 9)]


def test_only_the_requested_number_of_candidates_is_chosen() -> None:
    assert len(choose(affinity([2.0, 3.0, 5.0]), count=1)) == 1
    assert len(choose(affinity([2.0, 3.0, 5.0]), count=2)) == 2
    assert len(choose(affinity([2.0, 3.0, 5.0]))) == 3


def test_equal_scores_go_to_the_group_of_the_lower_label() -> None:
    candidates = choose(affinity([2.0, 2.0, 4.0]), ("self",) * 10, count=3)
    assert [c.score for c in candidates] == pytest.approx([2.0, 2.0, 2.0])
    assert [c.members[0] for c in candidates] == [0, 4, 8]


def test_a_group_without_known_classes_cannot_be_chosen() -> None:
    classes = (*CLASSES[:4], None, None, None, None, *CLASSES[8:])
    assert (4, 5, 6, 7) not in [c.members for c in choose(affinity([2.0, 99.0, 2.0]), classes, count=9)]
    assert choose(affinity([2.0, 3.0, 5.0]), (None,) * 10) == []


@pytest.mark.parametrize("wrong", [{"min_size": 0}, {"min_size": 5, "max_size": 4}, {"count": 0}, {"count": "all"}])
def test_invalid_parameters_of_the_selector_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(HarnessError, match=f"selector.{next(iter(wrong))}="):
        choose(affinity([1.0, 1.0, 1.0]), **wrong)


# ----------------------------------------------------------------------------------------------------------------------
# What the choice rests on
# ----------------------------------------------------------------------------------------------------------------------


def test_isolation_is_mean_strength_inside_over_mean_strength_to_the_outside() -> None:
    matrix = np.array([[0, 4, 1, 2], [4, 0, -3, 0], [1, -3, 0, 7], [2, 0, 7, 0]], dtype=float)
    assert isolation((0, 1), matrix) == pytest.approx(4 / ((1 + 2 + 3 + 0) / 4))
    assert isolation((0, 1, 2), matrix) == pytest.approx(((4 + 1 + 3) / 3) / ((2 + 0 + 7) / 3))


@pytest.mark.parametrize("members", [(0,), (0, 1, 2, 3)])
def test_isolation_needs_two_members_and_an_outside(members: tuple[int, ...]) -> None:
    assert isolation(members, np.ones((4, 4)) - np.eye(4)) is None


def test_isolation_without_outside_affinity_is_undefined() -> None:
    matrix = np.zeros((3, 3))
    matrix[0, 1] = matrix[1, 0] = 1.0
    assert isolation((0, 1), matrix) is None


def test_purity_is_the_share_of_the_most_common_class_among_known_units() -> None:
    labels = Labels(CLASSES, UNITS)
    assert purity((0, 1, 3, 6), labels) == pytest.approx(2 / 3)
    assert purity((6, 7), labels) is None
