"""Drawing distinct random groups: from pools of units, or from windows of an ordered pool.

The order of groups is decided by the seed and the profile (what is drawn from), not by the candidate: every candidate
of a profile takes the first that share no unit with it. So methods are compared on the same controls, and what was
evaluated for one is known for the next.
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

from harness.data.stages import ControlSets
from harness.data.units import UnitSpace
from harness.util.seeds import rng_for, seed_for

Group = tuple[int, ...]
LISTED = 4096
"""As many groups, or fewer, are all listed; more are dealt at random until there are enough."""
DEALS = 100
"""How often a group may have to be dealt until it shares no unit with the candidate."""


def from_pools(
    candidate: Sequence[int],
    pools: Iterable[Iterable[int]],
    units: UnitSpace,
    n: int,
    seed: int,
    shortfall: Mapping[int, int] | Mapping[str, int] | None = None,
) -> ControlSets:
    """Up to ``n`` distinct groups with as many units of each pool as the candidate has, and none of its own.

    Pools are disjoint, and hold the candidate's units as well as others: with the seed they decide the order of groups.
    Uniform over all groups there are; fewer than ``n`` come back only where fewer exist: then all of them do. Of two
    candidates, as many controls are shared as can be, but where less than one group in ``DEALS`` is free of the
    candidate's units: there units are dealt until enough of them are not the candidate's.
    """
    own = set(candidate)
    ordered = [np.array(sorted(pool, key=units.units.__getitem__)) for pool in pools]
    left = [[unit for unit in pool.tolist() if unit not in own] for pool in ordered]
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
    while len(groups) < min(n, possible):
        group: list[int] = []
        for pool, count, _ in named:
            dealt = rng.permutation(pool)[: 2 * count].tolist()  # no more than half of these are the candidate's
            group += [unit for unit in dealt if not scarce or unit not in own][:count]
        if own.isdisjoint(group):
            groups[tuple(sorted(group))] = None
    return ControlSets(tuple(groups), shortfall or {}, factor)


def _first(n: int, groups: Iterable[Group], seed: int, units: UnitSpace) -> tuple[Group, ...]:
    """The first of these groups. Each has a random place of its own: which others there are does not matter."""

    def place(group: Group) -> int:
        return seed_for(seed, f"control {' '.join(sorted(units.names(group)))}")

    return tuple(tuple(sorted(group)) for group in sorted(groups, key=place)[:n])


def inflation(pools: Iterable[tuple[int, int]]) -> float:
    r"""How many times wider a random group's damage spreads about its controls' mean than theirs do.

    .. math:: \sqrt{\frac{\sum_l g_l (1 + g_l / m_l)}{\sum_l g_l (1 - g_l / m_l)}} \cdot \frac{t_{.95}(\nu)}{z_{.95}},
              \qquad \nu = \sum_l (m_l - 1)

    for groups of :math:`g_l` units from each pool, of which the candidate leaves :math:`m_l` (``pools``: pairs m, g). A
    control shares no unit with the candidate, so it comes from a smaller pool, without whatever is strong in the
    candidate: in a layer of 12 heads, 18 % of random groups of 4 would reach 5 % against controls taken as they are.
    The second factor is there because the spread of what is left is that of few units. Together they keep a level of
    5 % where units do damage independently of each other, normally distributed. Infinite where one group is left.
    Source: sampling without replacement (Cochran 1977, section 2.6), Student 1908; measured by ``harness calibrate``.
    """
    from scipy.stats import norm, t

    sizes = [(m, g) for m, g in pools if g]
    own, theirs = sum(g * (1 + g / m) for m, g in sizes), sum(g * (1 - g / m) for m, g in sizes)
    freedom = sum(m - 1 for m, _ in sizes)
    if theirs <= 0 or freedom < 1:
        return math.inf
    return math.sqrt(own / theirs) * float(t.ppf(0.95, freedom) / norm.ppf(0.95))


@dataclass(frozen=True)
class Windows:
    """Groups of one unit from each window of an ordered pool; window ``i`` is ``pool[lows[i]:highs[i]]``.

    Both ends rise with ``i``. A set of units can then be dealt out to the windows exactly when its members, in the
    pool's order, lie in the windows in theirs; so sets are counted, and numbered, as rising sequences.
    """

    pool: tuple[int, ...]
    lows: tuple[int, ...]
    highs: tuple[int, ...]

    @cached_property
    def _ways(self) -> list[list[int]]:
        """``[i][j]``: sets for the first ``i`` windows among the first ``j`` units of the pool."""
        ways = [[1] * (len(self.pool) + 1)]
        for low, high in zip(self.lows, self.highs, strict=True):
            with_last_at = (fewer if low <= at < high else 0 for at, fewer in enumerate(ways[-1][:-1]))
            ways.append([0, *itertools.accumulate(with_last_at)])
        return ways

    @property
    def possible(self) -> int:
        """How many groups there are."""
        return self._ways[-1][-1]

    def group(self, number: int) -> list[int]:
        """The group of this number, below ``possible``."""
        chosen = []
        for ways in self._ways[:0:-1]:
            end = bisect_right(ways, number)
            number -= ways[end - 1]
            chosen.append(self.pool[end - 1])
        return chosen


def from_windows(
    parts: Sequence[Windows], units: UnitSpace, n: int, seed: int, shortfall: Mapping[int, int] | None = None
) -> ControlSets:
    """Up to ``n`` distinct groups, each made of a group of every part; uniform over all groups, as above.

    Windows belong to their candidate, and decide the order: two candidates share controls where their groups are few
    enough to be listed.
    """
    factor = inflation((len(part.pool), len(part.lows)) for part in parts)
    possible = math.prod(part.possible for part in parts)
    if possible <= LISTED:
        every = (_numbered(parts, number) for number in range(possible))
        return ControlSets(_first(n, every, seed, units), shortfall or {}, factor)
    windows = "; ".join(f"{part.lows} .. {part.highs} of {' '.join(units.names(part.pool))}" for part in parts)
    rng = rng_for(seed, f"controls: {windows}")
    drawn: dict[int, None] = {}
    while len(drawn) < min(n, possible):  # 64 bits more than it takes: none is likelier than another by more than 2^-64
        drawn[int.from_bytes(rng.bytes(possible.bit_length() // 8 + 9)) % possible] = None
    return ControlSets(tuple(tuple(sorted(_numbered(parts, number))) for number in drawn), shortfall or {}, factor)


def _numbered(parts: Sequence[Windows], number: int) -> Group:
    members: list[int] = []
    for part in parts:
        number, of_part = divmod(number, part.possible)
        members += part.group(of_part)
    return tuple(members)


def others(candidate: Iterable[int], units: UnitSpace) -> list[int]:
    """All units but the candidate's, in an order that does not depend on that of the units."""
    own = set(candidate)
    return [int(unit) for unit in units.canonical if int(unit) not in own]


def layer_bands(candidate: Iterable[int], units: UnitSpace, n: int) -> tuple[list[tuple[int, ...]], dict[int, int]]:
    """Bands of layers in which a control takes as many units as the candidate has; what was missing, by layer.

    A band is one layer; where a layer has too few units left, it is a band of layers around it, grown until it holds
    ``n`` distinct choices (or is the whole model).
    """
    wanted = Counter(int(units.layers[unit]) for unit in candidate)
    left = Counter(int(units.layers[unit]) for unit in others(candidate, units))
    short = {layer: count - left[layer] for layer, count in sorted(wanted.items()) if count > left[layer]}
    layers = sorted({*wanted, *left})
    for reach in range(len(layers)):
        bands = _joined(layers, set(short), reach)
        grown = [band for band in bands if not short.keys().isdisjoint(band)]
        if all(math.comb(sum(left[at] for at in band), sum(wanted[at] for at in band)) >= n for band in grown):
            break
    else:
        bands = [tuple(layers)]
    return [band for band in bands if not wanted.keys().isdisjoint(band)], short


def _joined(layers: list[int], short: set[int], reach: int) -> list[tuple[int, ...]]:
    """Each layer alone, but for short ones, which join those at most ``reach`` places away; bands that meet are one."""
    bands: list[tuple[int, ...]] = []
    for place, layer in enumerate(layers):
        band = set(layers[max(0, place - reach) : place + reach + 1] if layer in short else [layer])
        met = [other for other in bands if not band.isdisjoint(other)]
        bands = [*(other for other in bands if other not in met), tuple(sorted(band.union(*met)))]
    return bands
