"""The lowest eigenvectors of a graph of many small groups, in a basis of sparse vectors, one per group."""

from __future__ import annotations

import math

import numpy as np
import scipy  # scipy.sparse is loaded where it is first named: listing must stay fast
from jaxtyping import Float, Int

from harness.util.seeds import rng_for

SMALLEST = 1e-4
"""Smaller entries of a basis of unit vectors are set to zero. Newton's method starts with a threefold limit: faster."""
TOLERANCE = 1e-2
"""Largest accepted residual of an eigenvector. The error of its eigenvalue is about the square."""
FEW = 64
"""Up to this many groups, a dense basis is as fast."""
ROUNDS = 6
"""Maximum number of Newton steps. If groups are clear, two are enough."""
STEPS = 4
"""Conjugate gradient steps in each of them."""


def localised(
    similar: scipy.sparse.csr_array, root: Float[np.ndarray, " m"], clear: float, most: int
) -> tuple[Float[np.ndarray, " columns"], scipy.sparse.csr_array, Float[np.ndarray, "columns columns"]] | None:
    r"""Eigenvectors of ``similar`` :math:`= S = D^{-1/2} A D^{-1/2}` [m, m] for eigenvalues above 1 - ``clear``.

    Returns values, descending; a sparse basis B [m, columns], orthonormal up to ``TOLERANCE``; and T [columns,
    columns], so that the columns of B T are the eigenvectors. Values up to 1 - ``clear`` belong to no eigenvector. None
    if no such basis is found: there are up to ``FEW`` or more than ``most`` groups, or they are not clear. ``root``
    holds the diagonal of :math:`D^{1/2}`.

    B starts with one vector per group, :math:`D^{1/2}` on its units. Newton's method for an invariant subspace solves

    .. math:: X C - (I - B B^\top) S X = S B - B C, \qquad C = B^\top S B

    by conjugate gradients, and B + X is made orthonormal. All vectors stay near their groups: the cost grows with the
    number of links. A dense basis costs units times groups squared.

    Source: Edelman, Arias & Smith 1998, section 4 (Newton's method); Goedecker 1999 (bases of localised vectors).
    """
    groups = _groups(similar, 1 - clear)
    length = np.sqrt(np.bincount(groups, root**2))[groups]
    m = len(root)
    basis = scipy.sparse.csr_array(((root / length).astype(np.float32), groups, np.arange(m + 1, dtype=np.int32)))
    residual, smallest = math.inf, 3 * SMALLEST
    for step in range(ROUNDS):
        whole = similar @ basis
        image = cut(whole.copy(), smallest / 4)
        inside = cut(basis.T @ image, smallest)
        if step == 0:  # Newton's method fails for vectors that are no group; near 1 - clear, values still rise
            group = np.flatnonzero(inside.diagonal() > 1 - clear - 0.1)
            if not FEW < len(group) <= most:
                return None
            basis, whole, image = basis[:, group], whole[:, group], image[:, group]
            inside = inside[np.ix_(group, group)]
        inside = scipy.sparse.csr_array(0.5 * (inside + inside.T))  # `/` would give float64
        rest = cut(image - basis @ inside, smallest)
        before, residual = residual, float(scipy.sparse.linalg.norm(rest, axis=0).max())
        if not residual < before / 2:  # limited by the entries that are set to zero
            if not residual < (before if smallest == SMALLEST else 1):
                return None
            smallest = SMALLEST
        if residual < TOLERANCE:
            # Without the small entries of `image`, many of which have the same sign, values are too low by 0.002.
            products = (basis.T @ whole).toarray().astype(np.float64)
            values, turn = scipy.linalg.eigh(products, (basis.T @ basis).toarray().astype(np.float64))
            off = np.einsum("ij,ij->j", turn, (rest.T @ rest) @ turn)[values > 1 - clear]
            if off.max(initial=0) < TOLERANCE**2:
                return values[::-1], basis, turn[:, ::-1].astype(np.float32)
        basis = cut(basis + _newton(similar, basis, inside, rest, smallest), smallest)
        # one step of Newton and Schulz: the inverse root of nearly orthonormal columns' products
        basis = cut(1.5 * basis - 0.5 * basis @ cut(basis.T @ basis, smallest), smallest)
    return None


def _groups(similar: scipy.sparse.csr_array, low: float) -> Int[np.ndarray, " m"]:
    """Units connected by links between like rows of the projector onto eigenvalues above ``low``.

    The projector is a polynomial, and its rows are compared by 32 random projections: the correlation of unlike rows is
    above 0.8 with a probability of 1e-7.
    """
    m = similar.shape[0]
    before = rng_for(0, "random projections").standard_normal((m, 32), dtype=np.float32)
    now = similar @ before
    constant, linear, *others = _smooth_step(low + 0.15, 12)
    rows = constant * before + linear * now
    for coefficient in others:
        before, now = now, 2 * (similar @ now) - before
        rows += coefficient * now
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    first, second = scipy.sparse.triu(similar, 1).coords
    alike = np.concatenate(
        [
            np.einsum("ij,ij->i", rows[first[part]], rows[second[part]]) > 0.8
            for part in (slice(at, at + 2**14) for at in range(0, len(first), 2**14))
        ]
    )
    links = scipy.sparse.coo_array((alike[alike], (first[alike], second[alike])), shape=similar.shape)
    groups: Int[np.ndarray, " m"] = scipy.sparse.csgraph.connected_components(links, directed=False)[1]
    return groups


def _smooth_step(edge: float, degree: int) -> list[float]:
    """Chebyshev coefficients of 1 above ``edge`` and 0 below, in [-1, 1], damped by Jackson's kernel: no ripples."""
    order = np.arange(degree + 1)
    angle, unit = math.acos(edge), math.pi / (degree + 2)
    step = 2 / math.pi * angle * np.sinc(order * angle / math.pi)
    step[0] /= 2
    damped = (1 - order / (degree + 2)) * np.cos(order * unit) + np.sin(order * unit) / (degree + 2) / math.tan(unit)
    return [float(coefficient) for coefficient in step * damped]


def _newton(
    similar: scipy.sparse.csr_array,
    basis: scipy.sparse.csr_array,
    inside: scipy.sparse.csr_array,
    rest: scipy.sparse.csr_array,
    smallest: float,
) -> scipy.sparse.csr_array:
    """The change X of the basis, from its residual ``rest``, by conjugate gradients."""
    change, direction, left = 0 * rest, rest, rest
    size = _square(left)
    for _ in range(STEPS):
        image = cut(similar @ direction, smallest / 4)
        product = cut(direction @ inside - image + basis @ cut(basis.T @ image, smallest), smallest)
        curvature = float(direction.multiply(product).sum())
        if curvature <= 0:  # nothing left, or a vector of the basis that is no group
            break
        change = change + (size / curvature) * direction
        left = cut(left - (size / curvature) * product, smallest)
        size, before = _square(left), size
        direction = cut(left + (size / before) * direction, smallest)
    return change


def _square(matrix: scipy.sparse.csr_array) -> float:
    return float(np.square(matrix.data).sum())


def cut(matrix: scipy.sparse.sparray, smallest: float = SMALLEST) -> scipy.sparse.csr_array:
    """The matrix in rows, without entries below ``smallest``: with them, vectors would fill with rounding errors."""
    rows = scipy.sparse.csr_array(matrix)
    rows.data[np.abs(rows.data) < smallest] = 0
    rows.eliminate_zeros()
    return rows
