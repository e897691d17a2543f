"""The spectrum of a graph of links: its components, and the lowest eigenvalues of each one's normalised Laplacian."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import scipy  # scipy.sparse is loaded where it is first named: listing must stay fast
from jaxtyping import Float, Float32, Int

from harness.util.errors import HarnessError
from harness.util.seeds import rng_for
from harness.util.threads import spread

WHOLE_UP_TO = 2000
"""Units of a component up to which its matrix is written out and decomposed by LAPACK."""
MOST = 2048
"""Eigenvalues that are looked for in a larger one: of 50,000 units, so many vectors take 0.4 GiB."""
ROUNDS = 40
"""Of filtering; where groups are clear, five do."""


def components(links: scipy.sparse.csr_array) -> Iterator[tuple[Int[np.ndarray, " m"], scipy.sparse.csr_array]]:
    """Every connected component: the positions of its m units, ascending, and the links between them [m, m]."""
    of = scipy.sparse.csgraph.connected_components(links, directed=False)[1]
    order = np.argsort(of, kind="stable")  # so that each component is one square on the diagonal
    sorted_links = links[np.ix_(order, order)]
    ends = np.cumsum(np.bincount(of)).tolist()
    for start, end in zip([0, *ends], ends, strict=False):
        yield order[start:end], sorted_links[start:end, start:end]


def lowest(
    links: scipy.sparse.csr_array, most: int, below: float = 0.7
) -> tuple[Float[np.ndarray, " found"], Float[np.ndarray, "m vectors"]]:
    r"""Lowest eigenvalues, ascending, of :math:`I - D^{-1/2} A D^{-1/2}` for connected links A [m, m]; eigenvectors.

    ``most`` of them; of a component of more than ``WHOLE_UP_TO`` units only those lower than ``below`` and the next
    one, which has no vector. Filtered subspace iteration finds them: a Chebyshev polynomial of A raises whatever is
    lower than ``below`` out of a random subspace, which is widened until something else is left in it. A solver that is
    asked for a number of eigenvalues instead (ARPACK, LOBPCG) spends its time on telling those apart that belong to no
    group: ARPACK takes 70 times as long for 133 groups of 3775 units.

    Errors: more than ``MOST`` such eigenvalues, or some that stay unclear.
    Source: Zhou, Saad, Tiago & Chelikowsky 2006 (Chebyshev-filtered subspace iteration).
    """
    m = links.shape[0]
    if m <= WHOLE_UP_TO:
        matrix = links.toarray()
        root = np.sqrt(matrix.sum(axis=1))
        values, vectors = scipy.linalg.eigh(np.eye(m) - matrix / np.outer(root, root), subset_by_index=(0, most - 1))
        return values, vectors
    scale = scipy.sparse.diags_array(1 / np.sqrt(links.sum(axis=1)))
    similar = scipy.sparse.csr_array(scale @ links @ scale, dtype=np.float32)  # its eigenvalues are 1 - those
    clear = min(max(below, 1e-3), 1.9)  # beyond it float32 tells nothing apart, or there is nothing to filter out
    rng = rng_for(0, "subspace")
    block = rng.standard_normal((64, m), dtype=np.float32).T  # column by column in memory, as LAPACK works in place
    for _ in range(ROUNDS):
        _filter(similar, block, 1 - clear - 0.05)  # a margin, or what is just lower would rise slowly
        basis = scipy.linalg.qr(block, mode="economic", overwrite_a=True)[0]
        image = similar @ basis
        values, turn = scipy.linalg.eigh(basis.T @ image)
        low = 1 - values < clear
        block = (turn.T @ basis.T).T
        del basis
        if not low.all():
            values, vectors = values[low][::-1], np.ascontiguousarray(block[:, low][:, ::-1])
            off = image @ turn[:, low][:, ::-1] - vectors * values
            if len(values) and np.linalg.norm(off, axis=0).max() < 1e-3:  # values err by its square
                after = 1 - _next(similar, values, vectors)
                if after >= clear:  # else one has not risen yet
                    return np.append(1.0 - values, after)[:most], vectors[:, :most]
            block = block[:, -(len(values) + len(values) // 8 + 16) :].copy("F")
        elif len(values) == min(MOST, m):
            break
        else:
            more = min(len(values), MOST - len(values), m - len(values))
            block = np.hstack([block, rng.standard_normal((more, m), dtype=np.float32).T])
    raise HarnessError(
        f"a component of {m} units has no clear groups: {int(low.sum())} eigenvalues or more are below {below}.",
        "Cut faint links, which hold it together: affinity.permutations=5 affinity.quantile=0.9999, or a higher "
        "affinity.threshold; or use partitioner=leiden",
    )


def _filter(similar: scipy.sparse.csr_array, block: Float32[np.ndarray, "m columns"], edge: float) -> None:
    """Multiply columns by a polynomial of ``similar``: at most 1 for eigenvalues from -1 to ``edge``, steep above."""
    middle, half = (edge - 1) / 2, (edge + 1) / 2

    def some(start: int) -> None:
        before = np.ascontiguousarray(block[:, start : start + 64])
        now = (similar @ before - middle * before) / half
        for _ in range(9):
            before, now = now, (similar @ now - middle * now) * (2 / half) - before
        block[:, start : start + 64] = now

    spread(some, range(0, block.shape[1], 64))


def _next(
    similar: scipy.sparse.csr_array, values: Float32[np.ndarray, " found"], vectors: Float32[np.ndarray, "m found"]
) -> float:
    """The largest eigenvalue after these."""

    def others(x: np.ndarray) -> np.ndarray:
        left: np.ndarray = similar @ x - vectors @ ((values + 1) * (vectors.T @ x))  # these go to -1, the other end
        return left

    m = similar.shape[0]
    rest = scipy.sparse.linalg.LinearOperator((m, m), matvec=others, dtype=np.float32)
    start = rng_for(0, "start of Lanczos").standard_normal(m, dtype=np.float32)
    found: np.ndarray = scipy.sparse.linalg.eigsh(rest, 1, which="LA", v0=start, tol=1e-3, return_eigenvectors=False)
    return float(found[0])
