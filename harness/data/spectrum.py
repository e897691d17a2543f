"""The spectrum of a graph: its components, and the lowest eigenvalues of their normalised Laplacians."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import scipy  # scipy.sparse is loaded where it is first named: listing must stay fast
from jaxtyping import Float, Float32, Int

from harness.data.localised import cut, localised
from harness.util.errors import HarnessError
from harness.util.seeds import rng_for
from harness.util.threads import spread

WHOLE_UP_TO = 2000
"""Up to this many units, a component is converted to a dense matrix and decomposed by LAPACK."""
MOST = 2048
"""Maximum number of eigenvalues computed for a larger component: for 50,000 units, this many vectors take 0.4 GiB."""
ROUNDS = 40
"""Maximum number of filtering rounds. If groups are clear, five are enough."""


def components(links: scipy.sparse.csr_array) -> Iterator[tuple[Int[np.ndarray, " m"], scipy.sparse.csr_array]]:
    """Each connected component: the positions of its m units, ascending, and the links between them [m, m]."""
    component = scipy.sparse.csgraph.connected_components(links, directed=False)[1]
    order = np.argsort(component, kind="stable")  # each component becomes one block on the diagonal
    position = np.empty(len(order), dtype=links.indices.dtype)
    position[order] = np.arange(len(order))
    sorted_links = links[order]  # columns stay sorted: all of a row are in one component
    sorted_links.indices = position[sorted_links.indices]
    ends = np.cumsum(np.bincount(component)).tolist()
    for start, end in zip([0, *ends], ends, strict=False):
        yield order[start:end], sorted_links[start:end, start:end]


@dataclass(frozen=True)
class Spectrum:
    """Lowest eigenvalues of a component of m units, ascending, and their eigenvectors: the columns of basis @ turn."""

    values: Float[np.ndarray, " found"]
    basis: Float[np.ndarray, "m columns"] | scipy.sparse.csr_array
    turn: Float[np.ndarray, "columns vectors"] | None = None
    """None: the columns of the basis are the eigenvectors."""

    def rows(self, k: int) -> Float[np.ndarray, "m columns"] | scipy.sparse.csr_array:
        """The rows of the first k eigenvectors, up to a rotation, which changes neither lengths nor distances.

        Sparse if the basis is sparse and so many eigenvectors are used that their projector is nearly sparse as well.
        """
        if self.turn is None:
            vectors: Float[np.ndarray, "m columns"] = self.basis[:, :k]
            return vectors
        projector = cut(scipy.sparse.csr_array(self.turn[:, :k] @ self.turn[:, :k].T))
        if projector.nnz < k * len(self.turn) / 8:
            return cut(self.basis @ projector)
        dense: Float[np.ndarray, "m columns"] = self.basis @ self.turn[:, :k]
        return dense


def lowest(links: scipy.sparse.csr_array, most: int, below: float = 0.7) -> Spectrum:
    r"""Lowest eigenvalues, ascending, of :math:`I - D^{-1/2} A D^{-1/2}` for connected links A [m, m]; eigenvectors.

    At most ``most`` of them. For a component of more than ``WHOLE_UP_TO`` units: only those below ``below`` and the
    next one, which has no vector. They are found by filtered subspace iteration: a Chebyshev polynomial of A amplifies
    the eigenvectors below ``below`` in a random subspace, which is extended until it contains other eigenvectors as
    well. A solver for a fixed number of eigenvalues (ARPACK, LOBPCG) spends its time on separating the eigenvalues that
    belong to no group: ARPACK takes 70 times as long for 133 groups of 3775 units. :func:`localised` is tried first: a
    dense subspace costs units times groups squared, which is too much for a thousand groups.

    Errors: more than ``MOST`` such eigenvalues, or no convergence.
    Source: Zhou, Saad, Tiago & Chelikowsky 2006 (Chebyshev-filtered subspace iteration).
    """
    m = links.shape[0]
    if m <= WHOLE_UP_TO:
        matrix = links.toarray()
        root = np.sqrt(matrix.sum(axis=1))
        return Spectrum(*scipy.linalg.eigh(np.eye(m) - matrix / np.outer(root, root), subset_by_index=(0, most - 1)))
    root = np.sqrt(links.sum(axis=1))
    scale = (1 / root).astype(np.float32)
    scaled = links.data.astype(np.float32) * np.repeat(scale, np.diff(links.indptr)) * scale[links.indices]
    indices, ends = links.indices.astype(np.int32), links.indptr.astype(np.int32)
    similar = scipy.sparse.csr_array((scaled, indices, ends), shape=links.shape)  # has the eigenvalues 1 - lambda
    clear = min(max(below, 1e-3), 1.9)  # below: float32 cannot separate them; above: nothing to filter
    if found := _of_groups(similar, root, clear):
        return Spectrum(found.values[:most], found.basis, found.turn)
    rng = rng_for(0, "subspace")
    block = rng.standard_normal((64, m), dtype=np.float32).T  # column-major, so that LAPACK works in place
    for _ in range(ROUNDS):
        _filter(similar, block, 1 - clear - 0.05)  # a margin: eigenvalues just below it converge slowly
        basis = scipy.linalg.qr(block, mode="economic", overwrite_a=True)[0]
        image = similar @ basis
        values, turn = scipy.linalg.eigh(basis.T @ image)
        low = 1 - values < clear
        block = (turn.T @ basis.T).T
        del basis
        if not low.all():
            values, vectors = values[low][::-1], np.ascontiguousarray(block[:, low][:, ::-1])
            off = image @ turn[:, low][:, ::-1] - vectors * values
            if len(values) and np.linalg.norm(off, axis=0).max() < 1e-3:  # the error of values is its square
                after = 1 - _next(similar, partial(_lowered, vectors, values))
                if after >= clear:  # else an eigenvalue below `clear` is still missing
                    return Spectrum(np.append(1.0 - values, after)[:most], vectors[:, :most])
            block = block[:, -(len(values) + len(values) // 8 + 16) :].copy("F")
        elif len(values) == min(MOST, m):
            break
        else:
            more = min(len(values), MOST - len(values), m - len(values))
            block = np.hstack([block, rng.standard_normal((more, m), dtype=np.float32).T])
    raise HarnessError(
        f"a component of {m} units has no clear groups: {int(low.sum())} eigenvalues or more are below {below}.",
        "Remove weak links, which connect the groups: affinity.permutations=5 affinity.quantile=0.9999, or a higher "
        "affinity.threshold; or use partitioner=leiden",
    )


def _of_groups(similar: scipy.sparse.csr_array, root: Float[np.ndarray, " m"], clear: float) -> Spectrum | None:
    """The eigenvalues below ``clear`` and the next one, if one sparse vector per group gives all of them."""
    found = localised(similar, root, clear, MOST) if 0.2 <= clear <= 1 else None  # above 1, vectors spread over links
    if found is None:
        return None
    values, basis, turn = found
    low = values > 1 - clear
    values, turn = values[low], turn[:, low]
    raised = (turn * (values + 1).astype(np.float32)) @ turn.T
    after = 1 - _next(similar, lambda x: basis @ (raised @ (basis.T @ x)), tolerance=0.01)
    return Spectrum(np.append(1 - values, after), basis, turn) if after >= clear else None


def _filter(similar: scipy.sparse.csr_array, block: Float32[np.ndarray, "m columns"], edge: float) -> None:
    """Multiply the columns by a polynomial of ``similar``: at most 1 for eigenvalues in [-1, ``edge``], steep above."""
    middle, half = (edge - 1) / 2, (edge + 1) / 2

    def filter_columns(start: int) -> None:
        before = np.ascontiguousarray(block[:, start : start + 64])
        now = (similar @ before - middle * before) / half
        for _ in range(9):
            before, now = now, (similar @ now - middle * now) * (2 / half) - before
        block[:, start : start + 64] = now

    spread(filter_columns, range(0, block.shape[1], 64))


def _lowered(vectors: np.ndarray, values: np.ndarray, x: np.ndarray) -> np.ndarray:
    product: np.ndarray = vectors @ ((values + 1) * (vectors.T @ x))
    return product


def _next(
    similar: scipy.sparse.csr_array, lowered: Callable[[np.ndarray], np.ndarray], tolerance: float = 1e-3
) -> float:
    """The largest eigenvalue that is left when ``lowered``, value + 1 times projector, moves the given ones to -1.

    Its error is at most the ``tolerance``, and about the square of it if the next value is not near.
    """
    m = similar.shape[0]
    # Shifted by 1, so that a tolerance relative to the value is one relative to the spectrum.
    rest = scipy.sparse.linalg.LinearOperator((m, m), matvec=lambda x: similar @ x + x - lowered(x), dtype=np.float32)
    start = rng_for(0, "start of Lanczos").standard_normal(m, dtype=np.float32)
    found: np.ndarray = scipy.sparse.linalg.eigsh(
        rest, 1, which="LA", v0=start, ncv=40, tol=tolerance, return_eigenvectors=False
    )
    return float(found[0]) - 1
