"""Groups with the candidate's size, sites and strength."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Ge
from jaxtyping import Float

from harness import (
    Controls,
    ControlSets,
    HarnessError,
    Profile,
    UnitSpace,
    Windows,
    from_windows,
    hookimpl,
    others,
    site_bands,
)


@dataclass(frozen=True)
class LayerAndActivityMatched(Controls):
    r"""Groups of units at the candidate's sites that write about as strongly as its units.

    Units that write more do more damage, regardless of what they compute. Clustering finds strong units, and
    layer-matched groups are weaker. The units of a site are divided into up to ``bins`` bins of about equal size by the
    rank of their strength. Sites with fewer than 16 units are one bin, as in ``layer_matched``.

    With ``test=disjoint``, each unit is replaced by one of its nearest neighbours in strength. With :math:`r` the rank
    of strength among the units of a site (ties share their mean rank), and :math:`d_k(u)` the distance in rank from
    :math:`u` to the :math:`k`-th nearest unit outside the candidate :math:`C`, a control is a set of distinct units,
    one for each unit of the candidate, drawn uniformly from all sets

    .. math:: \{v_u\}_{u \in C}, \qquad v_u \notin C,\ \ \text{site}(v_u) = \text{site}(u),\ \
              |r(v_u) - r(u)| \le d_k(u)

    ``k`` is the smallest number, from ``neighbours`` on, for which there are ``n`` such sets. If no ``k`` is large
    enough, whole sites are used, and all sets are returned. Sites with few units are therefore matched loosely: the
    strongest unit of a site has only weaker controls. A site with too few units left is ranked and matched together
    with its neighbours, as in ``layer_matched``; ``shortfall`` gives the number of missing units per site.

    Input: units, strength [units]. Output: a profile whose cells are the bins of each site.
    Errors: a strength that is NaN or infinite.
    Source: this project.
    """

    name: ClassVar[str] = "layer_and_activity_matched"
    n: Annotated[int, Ge(1)] | None = field(
        default=None, metadata={"help": "groups to compare with; null: all where there are up to 2000, otherwise 199"}
    )
    neighbours: Annotated[int, Ge(1)] = field(
        default=3, metadata={"help": "test=disjoint: smallest number of units of similar strength that can replace one"}
    )
    bins: Annotated[int, Ge(1)] = field(default=4, metadata={"help": "most bins into which a site is divided"})
    seed: int = field(default=0, metadata={"help": "seed of the draw"})

    def __call__(self, units: UnitSpace, strength: Float[np.ndarray, " units"]) -> Profile:
        _refuse_non_finite(units, strength)
        return Profile.by_bin(units, strength, self.bins)

    def disjoint(
        self, candidate: tuple[int, ...], units: UnitSpace, strength: Float[np.ndarray, " units"], n: int
    ) -> ControlSets:
        _refuse_non_finite(units, strength)
        bands, shortfall = site_bands(candidate, units, n)
        if len(candidate) > len(others(candidate, units)):
            return ControlSets((), shortfall)
        widest = max(len(units.at_sites(band)) for band in bands)
        for k in range(self.neighbours, max(widest, self.neighbours) + 1):
            parts = [_windows(candidate, units, strength, band, k) for band in bands]
            if math.prod(part.possible for part in parts) >= n:
                break
        return from_windows(parts, units, n, self.seed, shortfall)


def _refuse_non_finite(units: UnitSpace, strength: Float[np.ndarray, " units"]) -> None:
    if not np.isfinite(strength).all():
        broken = ", ".join(units.names(np.flatnonzero(~np.isfinite(strength))[:5]))
        raise HarnessError(
            f"controls=layer_and_activity_matched: the strength of {broken} is NaN or infinite.",
            "Half precision can overflow: try subject.dtype=float32.",
        )


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
