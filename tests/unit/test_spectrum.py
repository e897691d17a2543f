"""The spectrum of large components: filtered subspace iteration against LAPACK, and the resulting groups."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import scipy
from harness_plugins.partitioners import eigengap
from sklearn.metrics import adjusted_rand_score

from harness.data import localised, spectrum
from harness.data.grouping import Affinity, Partition
from harness.data.units import UnitSpace
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


def blocks_with_faint_links(sizes: list[int], seed: int = 0) -> tuple[scipy.sparse.csr_array, np.ndarray]:
    """Complete blocks of uneven weights, connected by a ring of weak links and some random ones."""
    rng = np.random.default_rng(seed)
    block = np.repeat(np.arange(len(sizes)), sizes)
    n = len(block)
    inside = np.where(block[:, None] == block, rng.uniform(0.5, 1, (n, n)), 0.0)
    faint = 0.02 * (rng.random((n, n)) < 2 / n)
    first = np.cumsum([0, *sizes[:-1]])
    faint[first, np.roll(first, 1)] = 0.02
    upper = np.triu(np.maximum(inside, np.maximum(faint, faint.T)), 1)
    return scipy.sparse.csr_array(upper + upper.T), block


UNEVEN = [3, 4, 5, 8, 8, 12, 20, 40] * 4


def test_filtering_finds_the_eigenvalues_that_lapack_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    links, block = blocks_with_faint_links(UNEVEN)
    by_lapack = spectrum.lowest(links, 60)
    monkeypatch.setattr(spectrum, "WHOLE_UP_TO", 10)
    filtered = spectrum.lowest(links, 60)
    whole, values = by_lapack.values, filtered.values
    n = int((whole < 0.7).sum())
    vectors, found = by_lapack.rows(n), filtered.rows(n)
    assert (len(values), found.shape) == (n + 1, (len(block), n))
    np.testing.assert_allclose(values[:n], whole[:n], atol=1e-5)
    assert values[n] == pytest.approx(whole[n], abs=0.005)
    same = np.linalg.svd(found.T @ vectors)[1]  # cosines of the angles between the two subspaces
    np.testing.assert_allclose(same, 1, atol=1e-5)
    fewer = spectrum.lowest(links, 5)
    np.testing.assert_array_equal(fewer.values, values[:5])
    assert fewer.rows(5).shape == (len(block), 5)


def test_filtering_finds_eigenvalues_with_their_multiplicity(monkeypatch: pytest.MonkeyPatch) -> None:
    """The eigenvalues of a ring of equal cliques come in pairs: Lanczos from one vector misses the second."""
    n, size = 30, 6
    clique = np.ones((size, size)) - np.eye(size)
    ring = np.roll(np.eye(n), 1, axis=0)
    links = np.kron(np.eye(n), clique)
    corner = np.zeros((size, size))
    corner[0, 0] = 0.1
    links += np.kron(ring + ring.T, corner)
    whole = spectrum.lowest(scipy.sparse.csr_array(links), 40).values
    monkeypatch.setattr(spectrum, "WHOLE_UP_TO", 10)
    values = spectrum.lowest(scipy.sparse.csr_array(links), 40).values
    assert len(values) == (whole < 0.7).sum() + 1 == n + 1
    np.testing.assert_allclose(values[:n], whole[:n], atol=1e-5)


@pytest.mark.parametrize("parameters", [{}, {"cap": 6}, {"below": 0.01}, {"below": 2.0, "cap": 40}, {"seed": 4}])
def test_eigengap_finds_the_same_groups_with_both_solvers(
    parameters: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    links, block = blocks_with_faint_links(UNEVEN)
    affinity = Affinity(links, UnitSpace.heads([len(block)]))
    partitioner = build("partitioner", "eigengap", **parameters)
    (whole,) = partitioner(affinity)
    monkeypatch.setattr(spectrum, "WHOLE_UP_TO", 10)
    if parameters.get("below") == 2.0:  # half of all eigenvalues: no way but LAPACK's
        with pytest.raises(HarnessError, match=r"\d+ eigenvalues or more are below 2"):
            partitioner(affinity)
        return
    (filtered,) = partitioner(affinity)
    assert filtered.k == whole.k
    if not parameters:
        assert adjusted_rand_score(filtered.labels, whole.labels) == 1
        assert adjusted_rand_score(filtered.labels, block) == 1
    (again,) = partitioner(affinity)
    np.testing.assert_array_equal(again.labels, filtered.labels)


def test_k_means_from_pivots_finds_many_groups_where_random_starts_miss_some() -> None:
    """A component too large for a full decomposition, as activity gives it: 150 groups of 2 to 40 units."""
    sizes = np.random.default_rng(3).integers(2, 40, 150).tolist()
    links, block = blocks_with_faint_links(sizes)
    assert len(block) > spectrum.WHOLE_UP_TO
    (found,) = build("partitioner", "eigengap")(Affinity(links, UnitSpace.heads([len(block)])))
    assert found.diagnostics["components"] == 1
    assert found.k == 150
    assert adjusted_rand_score(block, found.labels) == 1


MANY = [2, 3, 4, 5, 8, 8, 12, 20] * 12
"""Groups of a component whose eigenvectors have a sparse basis."""


def test_a_sparse_basis_gives_the_eigenvectors_that_lapack_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    links, _ = blocks_with_faint_links(MANY)
    whole = spectrum.lowest(links, 200)
    monkeypatch.setattr(spectrum, "WHOLE_UP_TO", 10)
    found = spectrum.lowest(links, 200)
    assert scipy.sparse.issparse(found.basis)
    n = int((whole.values < 0.7).sum())
    assert len(found.values) == n + 1 == len(MANY) + 1
    np.testing.assert_allclose(found.values[:n], whole.values[:n], atol=1e-4)
    assert found.values[n] == pytest.approx(whole.values[n], abs=0.005)
    rows, vectors = scipy.sparse.csr_array(found.rows(len(MANY))), whole.rows(len(MANY))
    np.testing.assert_allclose((rows @ rows.T).toarray(), vectors @ vectors.T, atol=2 * localised.TOLERANCE)


@pytest.mark.parametrize("parameters", [{}, {"cap": 96}, {"below": 0.5}, {"seed": 4}])
def test_eigengap_finds_the_same_groups_in_a_sparse_basis(
    parameters: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    links, block = blocks_with_faint_links(MANY, seed=1)
    affinity = Affinity(links, UnitSpace.heads([len(block)]))
    partitioner = build("partitioner", "eigengap", **parameters)
    (whole,) = partitioner(affinity)
    monkeypatch.setattr(spectrum, "WHOLE_UP_TO", 10)
    monkeypatch.setattr(eigengap, "WHOLE_UP_TO", 10)
    (sparse,) = partitioner(affinity)
    monkeypatch.setattr(spectrum, "localised", lambda *_: None)
    (filtered,) = partitioner(affinity)
    for found in (whole, sparse, filtered):
        assert adjusted_rand_score(found.labels, block) == 1


@pytest.mark.parametrize(
    ("share", "links_per_unit", "weight"), [(1, 4, 0.3), (1, 8, 0.5), (0.5, 1, 0.2), (0.3, 4, 0.5)]
)
def test_noise_and_loose_groups_give_the_values_and_groups_of_lapack(
    share: float, links_per_unit: float, weight: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Noise inside a group (a ``share`` of its links) gives eigenvalues below 0.7 that belong to no group."""
    rng = np.random.default_rng(2)
    block = np.repeat(np.arange(70), 16)
    n = len(block)
    inside = np.where((block[:, None] == block) & (rng.random((n, n)) < share), rng.uniform(0.3, 1, (n, n)), 0.0)
    noise = weight * rng.uniform(0.5, 1, (n, n)) * (rng.random((n, n)) < links_per_unit / n)
    upper = np.triu(np.maximum(inside, noise), 1)
    ((_, links),) = spectrum.components(scipy.sparse.csr_array(upper + upper.T))
    affinity = Affinity(links, UnitSpace.heads([n]))
    (whole,) = build("partitioner", "eigengap")(affinity)
    values = spectrum.lowest(links, n).values
    monkeypatch.setattr(spectrum, "WHOLE_UP_TO", 10)
    monkeypatch.setattr(eigengap, "WHOLE_UP_TO", 10)
    found = spectrum.lowest(links, n // 2).values
    assert len(found) == (values < 0.7).sum() + 1
    np.testing.assert_allclose(found[:-1], values[: len(found) - 1], atol=5e-4)
    assert found[-1] == pytest.approx(values[len(found) - 1], abs=0.01)
    (large,) = build("partitioner", "eigengap")(affinity)
    assert large.k == whole.k
    assert adjusted_rand_score(large.labels, whole.labels) > 0.97  # k-means has other starts


def test_graphs_without_a_group_per_vector_have_no_sparse_basis() -> None:
    """A chain has no group, and a random graph has one."""
    n = 400
    chain = scipy.sparse.diags_array([np.ones(n - 1), np.ones(n - 1)], offsets=[-1, 1], format="csr")
    noise = scipy.sparse.csr_array(np.triu(np.random.default_rng(0).random((n, n)) < 0.1, 1), dtype=np.float64)
    for links in (chain, noise + noise.T):
        root = np.sqrt(links.sum(axis=1))
        scale = scipy.sparse.diags_array(1 / root)
        similar = scipy.sparse.csr_array(scale @ links @ scale, dtype=np.float32)
        assert localised.localised(similar, root, 0.7, 2048) is None


def test_the_smooth_step_rises_from_zero_to_one_without_ripples() -> None:
    """Jackson's kernel is positive, so that the approximation of a step is monotone: Weisse et al. 2006."""
    points = np.linspace(-1, 1, 2001)
    step = np.polynomial.chebyshev.chebval(points, localised._smooth_step(0.45, 12))
    assert (np.diff(step) > -1e-4).all()  # coefficients, not the kernel's integral, are exact
    assert step[0] == pytest.approx(0, abs=0.001)
    assert step[-1] == pytest.approx(1, abs=0.003)
    assert np.interp(0.45, points, step) == pytest.approx(0.5, abs=0.03)


def test_a_component_without_clear_groups_is_refused_with_a_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long chain has no gap between eigenvalues."""
    n = 300
    chain = scipy.sparse.diags_array([np.ones(n - 1), np.ones(n - 1)], offsets=[-1, 1], format="csr")
    monkeypatch.setattr(spectrum, "WHOLE_UP_TO", 10)
    monkeypatch.setattr(spectrum, "MOST", 64)
    with pytest.raises(HarnessError, match="a component of 300 units has no clear groups: 64") as caught:
        spectrum.lowest(chain, 150)
    assert "partitioner=leiden" in caught.value.fix


def test_the_eigengap_of_the_chooser_is_the_same_for_large_components(monkeypatch: pytest.MonkeyPatch) -> None:
    links, block = blocks_with_faint_links(UNEVEN)
    affinity = Affinity(links, UnitSpace.heads([len(block)]))
    k = len(UNEVEN)
    partitions = [
        Partition(k, block),
        Partition(2, (block > 5).astype(np.int64)),
        Partition(k + 9, np.arange(len(block)) % (k + 9)),
    ]
    chooser = build("chooser", "eigengap")
    whole = chooser(partitions, affinity)
    monkeypatch.setattr(spectrum, "WHOLE_UP_TO", 10)
    found = chooser(partitions, affinity)
    assert found[:2] == pytest.approx(whole[:2], abs=0.005)
    assert whole[2] is not None
    assert found[2] is None
