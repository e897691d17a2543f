"""The widest gap in the spectrum of the affinity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from harness.errors import HarnessError
from harness.groups import Affinity, Partition
from harness.hookspecs import hookimpl


@dataclass(frozen=True)
class Eigengap:
    r"""The partition whose number of groups stands before the widest gap in the affinity's spectrum.

    .. math:: q_p = \lambda_{k+1} - \lambda_k, \qquad 0 = \lambda_1 \le \lambda_2 \le \dots
              \text{ eigenvalues of } I - D^{-1/2} A D^{-1/2}

    ``k`` is the number of groups found. Units without any neighbour are left out of spectrum and count: each would be a
    component of its own. It looks at the number of groups only, not at who is in them.

    Input: partitions, affinity [n_units, n_units], non-negative. Output: a gap in [0, 2] per partition; nothing where
    there is no group, or no eigenvalue after the k-th.

    Errors: negative affinities.
    Source: von Luxburg 2007, section 8.3.
    """

    name: ClassVar[str] = "eigengap"

    def __call__(self, partitions: Sequence[Partition], affinity: Affinity) -> list[float | None]:
        if (affinity.matrix < 0).any():
            raise HarnessError(
                "chooser eigengap needs non-negative affinities.",
                "Say what of a signed affinity counts (affinity.transform=abs or positive), or use chooser=modularity.",
            )
        linked = np.array([i for i in affinity.units.canonical if affinity.matrix[i].any()], dtype=np.int64)
        values = _spectrum(affinity.matrix[np.ix_(linked, linked)].astype(np.float64))
        counts = [len(set(partition.labels[linked].tolist()) - {-1}) for partition in partitions]
        return [float(values[k] - values[k - 1]) if 1 <= k < len(values) else None for k in counts]


def _spectrum(matrix: np.ndarray) -> np.ndarray:
    """Eigenvalues of the normalised Laplacian, ascending."""
    from scipy.linalg import eigvalsh
    from scipy.sparse.csgraph import laplacian

    values: np.ndarray = eigvalsh(laplacian(matrix, normed=True)) if len(matrix) else np.zeros(0)
    return values


@hookimpl
def harness_choosers() -> list[type[Eigengap]]:
    return [Eigengap]
