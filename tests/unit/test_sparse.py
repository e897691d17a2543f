"""Sparse affinities: refusals, equality with dense ones, and the algorithms for many units."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy
from harness_plugins.affinities import _nearest, pearson_knn
from harness_plugins.affinities.pearson_knn import PearsonKnn
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from harness.board.figures import affinity as picture
from harness.board.figures.affinity import draw_affinity
from harness.data import grouping as groups
from harness.data.grouping import Affinity, Labels, Partition, best_overlap, isolation
from harness.data.recording import Activity, Spins
from harness.data.units import UnitSpace
from harness.proposal.stability import Reruns, overlap
from harness.registry.config import registry
from harness.util.errors import HarnessError
from harness.util.threads import one_thread


@pytest.fixture(autouse=True)
def small_fits_on_one_thread() -> Iterator[None]:
    with one_thread():
        yield


METHODS = registry()


def build(stage: str, name: str, **parameters: Any) -> Any:
    return METHODS.get(stage, name).build(parameters)


def some_links(n: int, seed: int, signed: bool = False, share: float = 0.2) -> np.ndarray:
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(n, n)) if signed else rng.random((n, n)) + 0.01
    upper = np.triu(np.where(rng.random((n, n)) < share, weights, 0.0), 1)
    return upper + upper.T


def both(matrix: np.ndarray) -> tuple[Affinity, Affinity]:
    """The same affinity, dense and sparse."""
    units = UnitSpace.heads([len(matrix)])
    return Affinity(matrix, units), Affinity(scipy.sparse.csr_array(matrix), units)


def planted(sizes: list[int], observations: int, seed: int = 0) -> tuple[Activity, np.ndarray]:
    """Units of a group share a signal, in shuffled order: correlation 0.5 inside, 0 outside."""
    rng = np.random.default_rng(seed)
    blocks = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    values = rng.normal(size=(observations, len(sizes)))[:, blocks] + rng.normal(size=(observations, len(blocks)))
    return Activity(values, UnitSpace.heads([len(blocks)])), blocks


# ----------------------------------------------------------------------------------------------------------------------
# The affinity
# ----------------------------------------------------------------------------------------------------------------------

TWO = UnitSpace.heads([2])


@pytest.mark.parametrize(
    ("matrix", "why"),
    [
        (np.array([[0, np.nan], [np.nan, 0]]), "NaN or infinite"),
        (np.array([[0, -np.inf], [-np.inf, 0]]), "NaN or infinite"),
        (np.array([[0, 1.0], [0.5, 0]]), "not symmetric"),
        (np.array([[0, 1.0], [0, 0]]), "not symmetric"),
        (np.array([[1.0, 0], [0, 0]]), "non-zero diagonal"),
        (np.zeros((3, 3)), r"shape \(3, 3\) does not fit 2 units"),
    ],
)
def test_a_sparse_affinity_is_validated_like_a_dense_one(matrix: np.ndarray, why: str) -> None:
    for kind in (np.array, scipy.sparse.csr_array):
        with pytest.raises(HarnessError, match=why):
            Affinity(kind(matrix), TWO)


@pytest.mark.parametrize("kind", [scipy.sparse.csc_array, scipy.sparse.coo_array, scipy.sparse.csr_matrix])
@pytest.mark.unchecked
def test_other_kinds_of_matrices_are_refused_by_name(kind: Any) -> None:
    given = kind(np.zeros((2, 2)))
    with pytest.raises(HarnessError, match=f"affinity is a {kind.__name__}, not an array") as caught:
        Affinity(given, TWO)
    assert "csr_array(matrix)" in caught.value.fix


@given(st.integers(1, 12), st.integers(0, 2**32 - 1), st.booleans(), st.data())
def test_sparse_and_dense_affinities_are_the_same_in_every_order(
    n: int, seed: int, signed: bool, data: st.DataObject
) -> None:
    matrix = some_links(n, seed, signed, share=0.5)
    order = np.array(data.draw(st.permutations(range(n))))
    units = UnitSpace(tuple(UnitSpace.heads([n]).units[i] for i in order))
    for affinity in both(matrix):
        again = affinity.reordered(order, units)
        np.testing.assert_array_equal(again.dense(), matrix[np.ix_(order, order)])
        np.testing.assert_array_equal(again.links.toarray(), matrix)  # the order of layers and indices
        assert again.links.nnz == np.count_nonzero(matrix)
        restored = Affinity.of(again.arrays(), units, {"k": 3})
        assert type(restored.matrix) is type(affinity.matrix)
        np.testing.assert_array_equal(restored.dense(), again.dense())
        assert restored.diagnostics == {"k": 3}


def test_a_sparse_affinity_is_saved_and_loaded_unchanged(tmp_path: Path) -> None:
    for affinity in both(some_links(9, 0)):
        save_file(affinity.arrays(), tmp_path / "affinity.safetensors")
        again = Affinity.of(load_file(tmp_path / "affinity.safetensors"), affinity.units, {})
        np.testing.assert_array_equal(again.dense(), affinity.dense())


def test_duplicate_links_are_added_and_zero_links_are_dropped() -> None:
    stored = scipy.sparse.csr_array(([0.5, 0.25, 0.0, 0.75, 0.0], [1, 1, 2, 0, 0], [0, 3, 4, 5]), shape=(3, 3))
    affinity = Affinity(stored, UnitSpace.heads([3]))
    np.testing.assert_array_equal(affinity.dense(), [[0, 0.75, 0], [0.75, 0, 0], [0, 0, 0]])
    assert affinity.links.nnz == 2


def test_all_pairs_of_too_many_units_are_refused_with_their_size_and_alternatives() -> None:
    n = 20_000
    many = Affinity(scipy.sparse.csr_array((n, n)), UnitSpace.heads([n]))
    with pytest.raises(HarnessError, match=r"20000 x 20000 x 8 bytes are 3\.0 GiB") as caught:
        many.dense("partitioner spectral")
    assert "partitioner spectral" in caught.value.what
    assert "partitioner=eigengap or partitioner=leiden" in caught.value.fix


@pytest.mark.parametrize(
    ("stage", "name", "parameters"),
    [
        ("partitioner", "spectral", {"k": [2]}),
        ("partitioner", "agglomerative", {"k": [2]}),
        ("chooser", "silhouette", {}),
    ],
)
def test_methods_that_need_all_pairs_refuse_too_many_units(
    stage: str, name: str, parameters: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(groups, "PAIRS_UP_TO", 8)
    dense, sparse = both(some_links(9, 0, share=0.9))
    given = (lambda a: ([Partition(3, np.arange(9) % 3)], a)) if stage == "chooser" else (lambda a: (a,))
    method = build(stage, name, **parameters)
    assert method(*given(dense))
    with pytest.raises(HarnessError, match=f"{stage} {name} needs all pairs of units"):
        method(*given(sparse))


def test_merging_by_description_length_refuses_too_many_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "PAIRS_UP_TO", 5)
    spins = np.random.default_rng(0).choice([-1, 1], (40, 6)).astype(np.int8)
    spins[:, 5] = 1  # a unit that never changes is not merged
    assert build("partitioner", "mdl_merge")(Spins(spins, UnitSpace.heads([6])))
    spins[0, 5] = -1
    with pytest.raises(HarnessError, match="partitioner mdl_merge needs all pairs"):
        build("partitioner", "mdl_merge")(Spins(spins, UnitSpace.heads([6])))


# ----------------------------------------------------------------------------------------------------------------------
# Who works on affinities gives the same answer to both kinds
# ----------------------------------------------------------------------------------------------------------------------


def pairwise_isolation(members: list[int], matrix: np.ndarray) -> float | None:
    """The definition, pair by pair."""
    others = [j for j in range(len(matrix)) if j not in members]
    inside = [abs(matrix[i, j]) for i in members for j in members if i < j]
    outside = [abs(matrix[i, j]) for i in members for j in others]
    return float(np.mean(inside) / np.mean(outside)) if inside and outside and any(outside) else None


@given(st.integers(2, 10), st.integers(0, 2**32 - 1), st.data())
def test_isolation_follows_its_definition_for_dense_and_sparse(n: int, seed: int, data: st.DataObject) -> None:
    matrix = some_links(n, seed, signed=True, share=0.4)
    members = data.draw(st.lists(st.integers(0, n - 1), min_size=1, unique=True))
    expected = pairwise_isolation(members, matrix)
    for affinity in both(matrix):
        assert isolation(members, affinity.matrix) == (None if expected is None else pytest.approx(expected, rel=1e-12))


@pytest.mark.parametrize(
    ("stage", "name", "parameters", "signed"),
    [
        ("partitioner", "eigengap", {}, False),
        ("partitioner", "leiden", {}, True),
        ("partitioner", "leiden", {"quality": "cpm", "resolution": [0.05]}, True),
        ("partitioner", "spectral", {"k": [3, 5]}, False),
        ("partitioner", "agglomerative", {"k": [3, 5]}, False),
        ("chooser", "eigengap", {}, False),
        ("chooser", "modularity", {}, True),
        ("chooser", "silhouette", {}, True),
        ("selector", "most_isolated", {"min_size": 2, "max_size": 30, "count": 9}, True),
        ("selector", "paper_score", {"min_size": 2, "max_size": 30, "count": 9}, True),
    ],
)
def test_results_do_not_depend_on_the_storage_of_an_affinity(
    stage: str, name: str, parameters: dict[str, Any], signed: bool
) -> None:
    matrix = some_links(40, 1, signed)
    partition = Partition(5, np.arange(40) % 5)
    labels = Labels(tuple("ab"[i % 2] for i in range(40)), UnitSpace.heads([40]))

    def answer(affinity: Affinity) -> list[Any]:
        method = build(stage, name, **parameters)
        if stage == "partitioner":
            return [found.labels.tolist() for found in method(affinity)]
        if stage == "chooser":
            return list(method([partition, Partition(2, np.arange(40) % 2)], affinity))
        return list(method(partition, affinity, labels) if name == "paper_score" else method(partition, affinity))

    dense, sparse = (answer(affinity) for affinity in both(matrix))
    assert dense == sparse
    assert dense


def test_the_picture_of_dense_and_sparse_is_the_same_and_large_ones_are_averaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    partition = Partition(2, np.arange(12) % 2)
    for affinity, name in zip(both(some_links(12, 0)), ("a.png", "b.png"), strict=True):
        draw_affinity(affinity, partition, (0, 2, 4, 6, 8, 10), tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    ones = both(np.ones((12, 12)) - np.eye(12))[1]
    shrunk = picture._shrunk(ones, np.arange(11), 3)  # three cells of three units and one of two
    np.testing.assert_allclose(np.diagonal(shrunk), [6 / 9] * 3 + [2 / 4])
    np.testing.assert_allclose(shrunk[~np.eye(4, dtype=bool)], 1)
    monkeypatch.setattr(picture, "CELLS", 5)
    draw_affinity(ones, partition, (), tmp_path / "c.png")
    assert (tmp_path / "c.png").stat().st_size > 0


# ----------------------------------------------------------------------------------------------------------------------
# Nearest neighbours block by block
# ----------------------------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.booleans(), st.booleans(), st.integers(2, 7))
def test_block_size_does_not_change_the_result(seed: int, k: int, mutual: bool, tied: bool, block: int) -> None:
    """Tied: spins of nine examples, five up, so that many correlations are equal but for their last digits."""
    rng = np.random.default_rng(seed)
    if tied:
        values = np.stack([rng.permutation([1.0] * 5 + [-1.0] * 4) for _ in range(13)], axis=1)
    else:
        values = rng.normal(size=(20, 2))[:, rng.integers(0, 2, 13)] + rng.normal(size=(20, 13))
    given = Activity(values, UnitSpace.heads([13]))
    whole = PearsonKnn(k=k, mutual=mutual)(given).dense()
    rho = np.where(np.eye(13), 0, np.corrcoef(values.T)).round(12)
    rho[rho <= 0] = 0
    near = (rho > 0) & (rho >= np.sort(rho, axis=1)[:, -k, None])
    np.testing.assert_allclose(whole, np.where(near & near.T if mutual else near | near.T, rho, 0), atol=2e-12)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_nearest, "BLOCK", block)
        np.testing.assert_allclose(PearsonKnn(k=k, mutual=mutual)(given).dense(), whole, atol=2e-12)


def test_the_result_in_blocks_does_not_depend_on_the_order_of_units(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_nearest, "BLOCK", 7)
    given, _ = planted([5, 9, 3, 12, 4], 60)
    order = np.random.default_rng(1).permutation(33)
    units = UnitSpace(tuple(given.units.units[i] for i in order))
    straight = PearsonKnn(permutations=2)(given)
    other = PearsonKnn(permutations=2)(Activity(given.values[:, order], units))
    np.testing.assert_array_equal(other.dense(), straight.dense()[np.ix_(order, order)])
    assert other.diagnostics["threshold"] == straight.diagnostics["threshold"]


def test_too_many_neighbours_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    copies = Activity(np.repeat([[1.0], [0.0], [0.0]], 1200, axis=1), UnitSpace.heads([1200]))
    with pytest.raises(HarnessError, match="1200 units have 1438800 neighbours") as caught:
        PearsonKnn(k=5)(copies)
    assert "binarizer=none" in caught.value.fix


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_activity_that_overflows_when_squared_is_refused(scale: float) -> None:
    with (
        np.errstate(all="ignore"),
        pytest.raises(HarnessError, match="too large or too small to be squared"),
    ):
        PearsonKnn()(Activity(np.eye(4) * scale, UnitSpace.heads([4])))


def test_a_sample_of_shuffled_pairs_gives_the_threshold_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """20,000 pairs are drawn from 90 units in 20 permutations: by theory, 1.645 / sqrt(n - 1) to within three standard
    errors of a quantile, sqrt(q (1 - q) / pairs) / density."""
    given = Activity(np.random.default_rng(0).normal(size=(401, 90)), UnitSpace.heads([90]))
    everything = PearsonKnn(permutations=20)(given).diagnostics["threshold"]
    monkeypatch.setattr(pearson_knn, "SHUFFLED", 20_000)
    sampled = PearsonKnn(permutations=20)(given).diagnostics["threshold"]
    error = math.sqrt(0.95 * 0.05 / 20_000) / 0.103 / 20
    assert sampled != everything
    assert sampled == pytest.approx(1.645 / 20, abs=3 * error)


# ----------------------------------------------------------------------------------------------------------------------
# Groups, one after another
# ----------------------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(-1, 4), min_size=1, max_size=12))
def test_groups_are_the_members_of_each_label(labels: list[int]) -> None:
    found = Partition(5, np.array(labels)).groups()
    wanted = sorted(set(labels) - {-1})
    assert found == [tuple(i for i, label in enumerate(labels) if label == wanted_label) for wanted_label in wanted]
    singles = len(found) > 1 and all(len(group) == 1 for group in found)
    assert Partition(5, np.array(labels)).trivial == (not found or len(found[0]) == len(labels) or singles)


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 11), min_size=1, unique=True))
def test_overlap_with_reruns_is_the_best_over_all_groups(seed: int, members: list[int]) -> None:
    rng = np.random.default_rng(seed)
    reruns = [(rng.permutation(12), [Partition(4, rng.integers(-1, 4, 12))]) for _ in range(3)]
    expected = []
    for order, (found,) in reruns:
        groups_there = [{int(order[i]) for i in np.flatnonzero(found.labels == label)} for label in range(4)]
        shares = [len(group & set(members)) / len(group | set(members)) for group in groups_there if group]
        expected.append(max(shares, default=0.0))
    assert overlap(tuple(members), Reruns(reruns, []), 0) == pytest.approx(np.mean(expected))
    assert best_overlap(members, []) == 0
