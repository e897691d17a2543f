"""Controls with the candidate's size, sites and strength."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Ge
from jaxtyping import Float

from harness import Controls, ControlSets, HarnessError, UnitSpace, Windows, from_windows, hookimpl, others, site_bands


@dataclass(frozen=True)
class LayerAndActivityMatched(Controls):
    r"""Random groups of units at the candidate's sites that write about as strongly as its units.

    Units that write more do more damage, regardless of what they compute. Clustering finds strong units, and
    layer-matched controls are weaker. With :math:`r` the rank of strength among the units of a site (ties share their
    mean rank), and :math:`d_k(u)` the distance in rank from :math:`u` to the :math:`k`-th nearest unit outside the
    candidate
    :math:`C`, a control is a set of distinct units, one for each unit of the candidate, drawn uniformly from all sets

    .. math:: \{v_u\}_{u \in C}, \qquad v_u \notin C,\ \ \text{site}(v_u) = \text{site}(u),\ \
              |r(v_u) - r(u)| \le d_k(u)

    ``k`` is the smallest number, from ``neighbours`` on, for which there are ``n`` such sets. If no ``k`` is large
    enough, whole sites are used, and all sets are returned. Sites with few units are therefore matched loosely: the
    strongest unit of a site has only weaker controls. A site with too few units left is ranked and matched together
    with its neighbours, as in ``layer_matched``; ``shortfall`` gives the number of missing units per site.

    Input: candidate (positions), units, strength [units]. Output: up to ``n`` distinct groups of the candidate's size;
    none if the rest of the model is smaller than the candidate.

    Errors: a strength that is NaN or infinite.
    Source: this project.
    """

    name: ClassVar[str] = "layer_and_activity_matched"
    n: Annotated[int, Ge(1)] = field(default=99, metadata={"help": "control groups; the smallest p is 1 / (n + 1)"})
    neighbours: Annotated[int, Ge(1)] = field(
        default=3, metadata={"help": "smallest number of units of similar strength that can replace one"}
    )
    seed: int = field(default=0, metadata={"help": "seed of the draw"})

    def __call__(
        self, candidate: tuple[int, ...], units: UnitSpace, strength: Float[np.ndarray, " units"]
    ) -> ControlSets:
        if not np.isfinite(strength).all():
            broken = ", ".join(units.names(np.flatnonzero(~np.isfinite(strength))[:5]))
            raise HarnessError(
                f"controls=layer_and_activity_matched: the strength of {broken} is NaN or infinite.",
                "Half precision can overflow: try subject.dtype=float32.",
            )
        bands, shortfall = site_bands(candidate, units, self.n)
        if len(candidate) > len(others(candidate, units)):
            return ControlSets((), shortfall)
        widest = max(len(units.at_sites(band)) for band in bands)
        for k in range(self.neighbours, max(widest, self.neighbours) + 1):
            parts = [_windows(candidate, units, strength, band, k) for band in bands]
            if math.prod(part.possible for part in parts) >= self.n:
                break
        return from_windows(parts, units, self.n, self.seed, shortfall)


def _windows(
    candidate: Sequence[int], units: UnitSpace, strength: Float[np.ndarray, " units"], band: Sequence[str], k: int
) -> Windows:
    """For each candidate unit in a band of sites: the units up to the rank distance of the k-th nearest."""
    from scipy.stats import rankdata

    inside = sorted(units.at_sites(band), key=units.rank.__getitem__)
    rank = dict(zip(inside, rankdata(strength[inside]), strict=True))
    pool = sorted(set(inside).difference(candidate), key=lambda unit: (rank[unit], units.rank[unit]))
    ranks = np.array([rank[unit] for unit in pool])
    centres = np.array(sorted(rank[unit] for unit in inside if unit in set(candidate)))
    reach = np.sort(np.abs(ranks - centres[:, None]), axis=1)[:, min(k, len(pool)) - 1]
    lows, highs = np.searchsorted(ranks, centres - reach, "left"), np.searchsorted(ranks, centres + reach, "right")
    return Windows(tuple(pool), tuple(lows.tolist()), tuple(highs.tolist()))


@hookimpl
def harness_controls() -> list[type[LayerAndActivityMatched]]:
    return [LayerAndActivityMatched]
