"""The groups whose pairs differ most clearly from pairs to the outside."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import numpy as np
import scipy  # scipy.sparse loads at first use: `harness list` must stay fast
from annotated_types import Ge
from harness_plugins.selectors._sizes import COUNT, LARGEST, SMALLEST, require_sizes
from jaxtyping import Float

from harness import Affinity, Candidate, Partition, Selector, hookimpl


@dataclass(frozen=True)
class MostSeparated(Selector):
    r"""The groups whose affinity inside exceeds their affinity to the outside by the most standard errors.

    .. math:: \text{score}(g) = \frac{\bar a_{\text{in}} - \bar a_{\text{out}}}
              {s \sqrt{1 / n_{\text{in}} + 1 / n_{\text{out}}}}

    :math:`\bar a_{\text{in}}` is the mean of |affinity| over the :math:`n_{\text{in}}` pairs inside the group,
    :math:`\bar a_{\text{out}}` that over its :math:`n_{\text{out}}` pairs with other units, and s the pooled standard
    deviation of the two. A pair of units is one observation, so that a single strong link is less evidence than a group
    of four with six of them; ``most_isolated`` compares the means alone. The score ranks groups; it is no test, because
    the groups were made from the same affinities and pairs share units.

    Groups of ``min_size`` to ``max_size`` units qualify if they have affinity inside. A group whose two kinds of pairs
    do not vary comes first, without a score, because its ratio is not finite.

    Input: partition, affinity. Output: the ``count`` most separated groups, best first; the lower label breaks ties.
    The list is empty if no group qualifies.

    Errors: ``min_size`` above ``max_size``.
    Source: Student's two-sample t.
    """

    name: ClassVar[str] = "most_separated"
    count: Annotated[int, Ge(1)] = field(default=3, metadata={"help": COUNT})
    min_size: Annotated[int, Ge(2)] = field(default=2, metadata={"help": f"{SMALLEST}; a pair has 2 units"})
    max_size: int = field(default=12, metadata={"help": LARGEST})

    def __post_init__(self) -> None:
        require_sizes(self.min_size, self.max_size)

    def __call__(self, partition: Partition, affinity: Affinity) -> list[Candidate]:
        scored = []
        for members in partition.groups():
            if self.min_size <= len(members) <= self.max_size and len(members) < len(affinity.units):
                score = _separation(members, affinity)
                if score is not None:
                    scored.append((score, members))
        scored.sort(key=lambda pair: -pair[0])  # a stable sort: lower label first on a tie
        return [Candidate(members, score if math.isfinite(score) else None) for score, members in scored[: self.count]]


def _separation(members: tuple[int, ...], affinity: Affinity) -> float | None:
    """The score of a group, infinite where neither kind of pair varies. None: no affinity inside the group."""
    n, others = len(members), len(affinity.units) - len(members)
    links = scipy.sparse.csr_array(affinity.matrix[list(members)])
    inside, strength = np.isin(links.indices, members), np.abs(links.data)
    within, across = np.sort(strength[inside])[::2], strength[~inside]  # each pair inside is stored twice
    if not within.any():
        return None
    n_in, n_out = n * (n - 1) // 2, n * others
    gap = within.sum() / n_in - across.sum() / n_out
    squares = _squares(within, n_in) + _squares(across, n_out)
    error = math.sqrt(squares / (n_in + n_out - 2) * (1 / n_in + 1 / n_out))
    rounding = 1e-12 * strength.max()
    if abs(gap) <= rounding:
        return 0.0
    return float(gap / error) if error > rounding else math.copysign(math.inf, gap)


def _squares(strength: Float[np.ndarray, " stored"], pairs: int) -> float:
    """Squared deviations from the mean, summed over all pairs; those that are not stored are zero."""
    mean = strength.sum() / pairs
    return float(np.square(strength - mean).sum() + (pairs - len(strength)) * mean**2)


@hookimpl
def harness_selectors() -> list[type[MostSeparated]]:
    return [MostSeparated]
