"""Draw distinct random groups: from pools of units, or from windows of an ordered pool.

The order of groups depends on the seed and the profile (the pools and how many units are drawn from each), not on the
candidate. Every candidate takes the first groups of its profile that share no unit with it. Methods are therefore
compared on the same controls, and a control that was evaluated for one candidate is cached for the next.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from harness.data.contracts import ControlSets
from harness.data.units import UnitSpace
from harness.util.seeds import rng_for, seed_for

Group = tuple[int, ...]
LISTED = 4096
"""Up to this many possible groups, all are listed and ranked. Beyond it, groups are drawn at random."""
DEALS = 100
"""If a random group without the candidate's units takes more draws than this on average, these units are excluded."""


def from_pools(
    candidate: Sequence[int],
    pools: Iterable[Iterable[int]],
    units: UnitSpace,
    n: int,
    seed: int,
    shortfall: Mapping[str, int] | None = None,
) -> ControlSets:
    """Up to ``n`` distinct groups with as many units of each pool as the candidate, and none of the candidate's units.

    Pools are disjoint and include the candidate's units; together with the seed they determine the order of groups.
    Groups are uniform over all possible ones that can be ablated together. If fewer than ``n`` exist, all are returned
    (of more than ``LISTED`` possible ones, those found in ``DEALS`` draws for each control). Candidates share as many
    controls as possible, unless less than one group in ``DEALS`` is free of the candidate's units: then only other
    units are drawn.
    """
    members = set(candidate)
    ordered = [np.array(sorted(pool, key=units.rank.__getitem__)) for pool in pools]
    left = [[unit for unit in pool.tolist() if unit not in members] for pool in ordered]
    counts = [len(pool) - len(rest) for pool, rest in zip(ordered, left, strict=True)]
    possible = math.prod(map(math.comb, map(len, left), counts))
    if not possible:
        return ControlSets((), shortfall or {})
    factor = inflation(zip(map(len, left), counts, strict=True))
    if possible <= LISTED:
        choices = itertools.product(*map(itertools.combinations, left, counts))
        every = (tuple(itertools.chain(*parts)) for parts in choices)
        return ControlSets(_first(n, every, seed, units), shortfall or {}, factor)
    named = [(pool, count, " ".join(units.names(pool))) for pool, count in zip(ordered, counts, strict=True)]
    rng = rng_for(seed, "; ".join(f"controls of {count} of {names}" for _, count, names in named))
    scarce = DEALS * possible < math.prod(map(math.comb, map(len, ordered), counts))
    groups: dict[Group, None] = {}
    refused = 0
    while len(groups) < min(n, possible) and refused < DEALS * n:
        group: list[int] = []
        for pool, count, _ in named:
            drawn = rng.permutation(pool)[: 2 * count].tolist()  # at most half of these are the candidate's
            group += [unit for unit in drawn if not scarce or unit not in members][:count]
        if members.isdisjoint(group):
            if units.allows(group):
                groups[tuple(sorted(group))] = None
            else:
                refused += 1
    return ControlSets(tuple(groups), shortfall or {}, factor)


def _first(n: int, groups: Iterable[Group], seed: int, units: UnitSpace) -> tuple[Group, ...]:
    """The first ``n`` groups. Each has its own random rank, which does not depend on the other groups."""

    def rank(group: Group) -> int:
        return seed_for(seed, f"control {' '.join(sorted(units.names(group)))}")

    return tuple(tuple(sorted(group)) for group in sorted(filter(units.allows, groups), key=rank)[:n])


def inflation(pools: Iterable[tuple[int, int]]) -> float:
    r"""The spread of a random group's damage about its controls' mean, divided by the spread of the controls' damage.

    .. math:: \sqrt{\frac{\sum_l g_l (1 + g_l / m_l)}{\sum_l g_l (1 - g_l / m_l)}} \cdot \frac{t_{.95}(\nu)}{z_{.95}},
              \qquad \nu = \sum_l (m_l - 1)

    for groups of :math:`g_l` units from each pool. :math:`m_l` units of the pool are not the candidate's (``pools``:
    pairs m, g). A control shares no unit with the candidate, so it comes from a smaller pool, which lacks the
    candidate's strong units: in a layer of 12 heads, 18 % of random groups of 4 would reach 5 % without inflation. The
    second factor corrects for estimating the spread from few units. Together they keep a level of 5 % if units do
    damage independently of each other, and the damage is normally distributed. Infinite where only one group is left.
    Source: sampling without replacement (Cochran 1977, section 2.6), Student 1908; measured by ``harness calibrate``.
    """
    from scipy.stats import norm, t

    sizes = [(m, g) for m, g in pools if g]
    candidate, control = sum(g * (1 + g / m) for m, g in sizes), sum(g * (1 - g / m) for m, g in sizes)
    freedom = sum(m - 1 for m, _ in sizes)
    if control <= 0 or freedom < 1:
        return math.inf
    return math.sqrt(candidate / control) * float(t.ppf(0.95, freedom) / norm.ppf(0.95))


@dataclass(frozen=True)
class Windows:
    """Groups of one unit from each window of an ordered pool. Window ``i`` is ``pool[lows[i]:highs[i]]``.

    ``lows`` and ``highs`` are increasing. A set of units is such a group exactly when its i-th unit, in the pool's
    order, lies in the i-th window. Sets are therefore counted and numbered as increasing sequences.
    """

    pool: tuple[int, ...]
    lows: tuple[int, ...]
    highs: tuple[int, ...]

    @cached_property
    def _ways(self) -> list[list[int]]:
        """``[i][j]``: number of groups from the first ``i`` windows and the first ``j`` units of the pool."""
        ways = [[1] * (len(self.pool) + 1)]
        for low, high in zip(self.lows, self.highs, strict=True):
            with_last_at = (fewer if low <= at < high else 0 for at, fewer in enumerate(ways[-1][:-1]))
            ways.append([0, *itertools.accumulate(with_last_at)])
        return ways

    @property
    def possible(self) -> int:
        """The number of possible groups."""
        return self._ways[-1][-1]

    def group(self, number: int) -> list[int]:
        """The group with this number, which is below ``possible``."""
        chosen = []
        for ways in self._ways[:0:-1]:
            end = bisect_right(ways, number)
            number -= ways[end - 1]
            chosen.append(self.pool[end - 1])
        return chosen


def from_windows(
    parts: Sequence[Windows], units: UnitSpace, n: int, seed: int, shortfall: Mapping[str, int] | None = None
) -> ControlSets:
    """Up to ``n`` distinct groups, each the union of one group of every part, that can be ablated together.

    They are uniform over all possible ones. Of more than ``LISTED``, those found in ``DEALS`` draws for each are taken.

    Windows depend on the candidate and determine the order of groups. Candidates therefore share controls only where
    all groups are listed (``LISTED``).
    """
    factor = inflation((len(part.pool), len(part.lows)) for part in parts)
    possible = math.prod(part.possible for part in parts)
    if possible <= LISTED:
        every = (_numbered(parts, number) for number in range(possible))
        return ControlSets(_first(n, every, seed, units), shortfall or {}, factor)
    windows = "; ".join(f"{part.lows} .. {part.highs} of {' '.join(units.names(part.pool))}" for part in parts)
    rng = rng_for(seed, f"controls: {windows}")
    drawn: dict[Group, None] = {}
    refused = 0
    while len(drawn) < min(n, possible) and refused < DEALS * n:
        # 64 extra bits: probabilities differ by less than 2^-64.
        group = _numbered(parts, int.from_bytes(rng.bytes(possible.bit_length() // 8 + 9)) % possible)
        if units.allows(group):
            drawn[tuple(sorted(group))] = None
        else:
            refused += 1
    return ControlSets(tuple(drawn), shortfall or {}, factor)


def _numbered(parts: Sequence[Windows], number: int) -> Group:
    members: list[int] = []
    for part in parts:
        number, of_part = divmod(number, part.possible)
        members += part.group(of_part)
    return tuple(members)


def others(candidate: Iterable[int], units: UnitSpace) -> list[int]:
    """All units except the candidate's, in an order that does not depend on the order of units."""
    members = set(candidate)
    return [int(unit) for unit in units.canonical if int(unit) not in members]


def site_bands(candidate: Iterable[int], units: UnitSpace, n: int) -> tuple[list[tuple[str, ...]], dict[str, int]]:
    """Bands of sites from which a control takes as many units as the candidate has there; missing units by site.

    A band is one site. If that site has too few other units, the band grows to neighbouring sites of its family until
    it allows ``n`` distinct choices (or is the whole family).
    """
    wanted = Counter(int(units.site_of[unit]) for unit in candidate)
    left = Counter(int(units.site_of[unit]) for unit in others(candidate, units))
    short = {site: count - left[site] for site, count in sorted(wanted.items()) if count > left[site]}
    families = list(units.sites_by_family.values())
    for reach in range(len(units.sites)):
        bands = [band for sites in families for band in _joined(sites, set(short), reach)]
        grown = [band for band in bands if not short.keys().isdisjoint(band)]
        if all(math.comb(sum(left[at] for at in band), sum(wanted[at] for at in band)) >= n for band in grown):
            break
    else:
        bands = families
    used = [band for band in bands if not wanted.keys().isdisjoint(band)]
    named = [tuple(units.sites[site] for site in band) for band in used]
    return named, {units.sites[site]: missing for site, missing in short.items()}


def _joined(sites: Sequence[int], short: set[int], reach: int) -> list[tuple[int, ...]]:
    """One band per site. Short sites include those within ``reach`` places; overlapping bands are merged."""
    bands: list[tuple[int, ...]] = []
    for place, site in enumerate(sites):
        band = set(sites[max(0, place - reach) : place + reach + 1] if site in short else [site])
        met = [other for other in bands if not band.isdisjoint(other)]
        bands = [*(other for other in bands if other not in met), tuple(sorted(band.union(*met)))]
    return bands
