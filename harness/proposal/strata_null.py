"""The random-partition null: what strata that have nothing to do with routes would agree with the labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Int

from harness.data.grouping import Agreement
from harness.proposal.proposal import Proposal
from harness.util.errors import HarnessError
from harness.util.seeds import rng_for

LOWEST = -1.0
"""The statistic where no stratum has a partition to compare: below every adjusted Rand index."""


@dataclass(frozen=True)
class StrataNull:
    r"""The largest agreement within strata, among that of uniform partitions of the same examples.

    .. math:: T = \max_{s, k} \text{ARI}_{s, k}, \qquad z = (T - \bar T_0) / s_{T_0}, \qquad
              p = \frac{1 + \#\{T_{0, r} \ge T\}}{1 + R}

    ARI: the adjusted Rand index of a partition of the units, found on the examples of stratum s, with the labels. For
    each of R permutations of the examples, strata of the same sizes are filled in turn, and everything from the signal
    to the partitions is computed again. Where strata have nothing to do with what units do, T and the :math:`T_0` are
    exchangeable, and p is exact: at most a in a share a of cases.

    ``agreement``: T; ``null``: the :math:`T_0` that were computed, of ``runs`` asked for. Fewer: as many as the cell's
    ``futility`` had at least T, and no small p was possible any more (Besag & Clifford 1991).
    Source: closure paper, section 3.9 (ten partitions, whose sizes vary, and the share #/R).
    """

    agreement: float
    null: tuple[float, ...]
    runs: int
    z: float | None
    p: float
    __pydantic_config__: ClassVar = {"extra": "forbid", "allow_inf_nan": False}

    @classmethod
    def of(cls, agreement: float, null: Sequence[float], runs: int, ddof: int = 1) -> StrataNull:
        """The place of an agreement among those of the null."""
        spread = float(np.std(null, ddof=ddof)) if len(null) > ddof and min(null) < max(null) else 0.0
        z = (agreement - float(np.mean(null))) / spread if spread > 0 else None
        p = (1 + sum(other >= agreement for other in null)) / (1 + len(null))
        return cls(agreement, tuple(null), runs, z, p)


def strata_null(
    agreement: float,
    propose: Callable[[Int[np.ndarray, " some"]], Proposal],
    sizes: Sequence[int],
    examples: int,
    runs: int,
    futility: int | None,
    ddof: int,
    seed: int,
    tick: Callable[[int], None],
) -> StrataNull:
    """Compare an agreement with that of random strata. ``propose``: the proposal of some of the ``examples``."""
    null: list[float] = []
    for run in range(runs):
        order = rng_for(seed, f"random strata {run}").permutation(examples)
        rows = np.split(order, np.cumsum(sizes))[: len(sizes)]
        null.append(best_agreement(propose(np.sort(some)) for some in rows))
        tick(1)
        if futility is not None and sum(other >= agreement for other in null) >= futility:
            break
    return StrataNull.of(agreement, null, runs, ddof)


def best_agreement(proposals: Iterable[Proposal]) -> float:
    """The largest adjusted Rand index with the labels, over strata and partitions. A stratum on which a method fails
    has none.
    """
    found = [LOWEST]
    for proposal in proposals:
        try:
            agreements = [Agreement.of(partition, proposal.labels) for partition in proposal.raw_partitions]
        except HarnessError:
            continue
        found += [agreement.ari for agreement in agreements if agreement is not None]
    return max(found)
