"""The widest gap in the spectrum of the affinity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import scipy  # scipy.sparse loads at first use: `harness list` must stay fast
from jaxtyping import Float

from harness import Affinity, Chooser, HarnessError, Partition, hookimpl
from harness.data.spectrum import components, lowest


@dataclass(frozen=True)
class Eigengap(Chooser):
    r"""The partition whose number of groups k has the widest eigenvalue gap after it.

    .. math:: q_p = \lambda_{k+1} - \lambda_k, \qquad 0 = \lambda_1 \le \lambda_2 \le \dots
              \text{ eigenvalues of } I - D^{-1/2} A D^{-1/2}

    ``k`` is the number of groups found. Units without any neighbour are left out of the spectrum and of ``k``: each
    would be a component of its own. Only the number of groups matters, not their members. For a component of more than
    2000 units, only the eigenvalues below 0.7 and the next one are computed; a partition with ``k`` beyond them gets
    None.

    Input: partitions, affinity [n_units, n_units], non-negative. Output: a gap in [0, 2] per partition; None if there
    is no group, or no eigenvalue after the k-th.

    Errors: negative affinities.
    Source: von Luxburg 2007, section 8.3.
    """

    name: ClassVar[str] = "eigengap"

    def __call__(self, partitions: Sequence[Partition], affinity: Affinity) -> list[float | None]:
        if affinity.matrix.min() < 0:
            raise HarnessError(
                "chooser eigengap needs non-negative affinities.",
                "Choose how a signed affinity is used (affinity.transform=abs or positive), or use chooser=modularity.",
            )
        linked = affinity.units.canonical[np.diff(affinity.links.indptr) > 0]
        counts = [len(set(partition.labels[linked].tolist()) - {-1}) for partition in partitions]
        values = _spectrum(affinity.links, max(counts, default=0) + 1)
        return [float(values[k] - values[k - 1]) if 1 <= k < len(values) else None for k in counts]


def _spectrum(links: scipy.sparse.csr_array, count: int) -> Float[np.ndarray, " found"]:
    """The lowest eigenvalues, ascending: ``count`` of them, or fewer if a large component cuts its spectrum off."""
    parts = [part for members, part in components(links) if len(members) > 1]
    spectra = [lowest(part, min(count, part.shape[0])).values for part in parts]
    cut = [values[-1] for values, part in zip(spectra, parts, strict=True) if len(values) < min(count, part.shape[0])]
    values = np.sort(np.concatenate([np.zeros(0), *spectra]))
    return values[values <= min(cut, default=np.inf)]


@hookimpl
def harness_choosers() -> list[type[Eigengap]]:
    return [Eigengap]
