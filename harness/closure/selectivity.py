"""How much of a group's damage is on the examples that it was proposed for: on-target against off-target effects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

SHARE = 1 / 3
"""The worst off-target effect of a selective group, relative to its on-target effect, is at most this."""
BEYOND = 2
"""Standard deviations by which the on-target effect is above the mean of the compared groups."""


@dataclass(frozen=True)
class Damage:
    """A mean damage, positive for the worse, with a 95 % interval (None: too few examples)."""

    mean: float
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class Selectivity:
    r"""Damage inside a group's own stratum, and inside every other one.

    .. math:: \text{point: } d_{on} > \bar c + 2 s_c \ \wedge\ \max_s d_s \le \tfrac13 d_{on}, \qquad
              \text{interval: } l_{on} > \bar c + 2 s_c \ \wedge\ \max_s u_s \le \tfrac13 l_{on}

    c: the damages of the groups that it is compared with, on its own stratum (``null``: their mean plus two standard
    deviations; None: fewer than two). l, u: the limits of 95 % intervals over examples, or documents. ``ratio``: the
    worst off-target effect over the on-target effect; None where there is no damage on target.

    Source: a pre-registered study of expert selectivity (arXiv 2606.25092): 3 of 6 families pass by points, 1 of 6 by
    intervals.
    """

    on: Damage
    off: Mapping[str, Damage]
    null: float | None

    @property
    def worst(self) -> str:
        """The other stratum with the largest damage."""
        return max(self.off, key=lambda name: self.off[name].mean)

    @property
    def ratio(self) -> float | None:
        """The damage there, relative to that on target."""
        return self.off[self.worst].mean / self.on.mean if self.on.mean > 0 else None

    @property
    def by_points(self) -> bool:
        """Whether it is selective by the point rule."""
        worst = max(each.mean for each in self.off.values())
        return self._selective(self.on.mean, worst)

    @property
    def by_intervals(self) -> bool:
        """Whether it is selective by the interval rule."""
        upper = [each.interval[1] for each in self.off.values() if each.interval is not None]
        if self.on.interval is None or len(upper) < len(self.off):
            return False
        return self._selective(self.on.interval[0], max(upper))

    def _selective(self, on: float, worst: float) -> bool:
        return self.null is not None and on > max(self.null, 0.0) and worst <= SHARE * on
