r"""Sequential stopping: controls are evaluated in rounds, and a candidate that many of them equal is given up.

p is :math:`(1 + k) / (1 + m)` over the ``m`` controls evaluated, ``k`` of which do at least as much damage. With ``n``
of them drawn, ``k`` at least ``give_up`` where a candidate is given up, at level :math:`\alpha`:

- Where ``give_up`` :math:`> \alpha (1 + n) - 1`, who has :math:`p \le \alpha` is the same as if all ``n`` were always
  evaluated. ``k`` only grows, so with all of them :math:`1 + k \ge 1 + \text{give\_up} > \alpha (1 + n)`, hence
  :math:`p > \alpha`; and where the candidate was given up, :math:`m \le n` makes p no smaller. Ten do for ``n`` = 99
  at 5 %.
- Everywhere the level is kept. Who was given up and still has :math:`p \le \alpha` was so after
  :math:`m \ge (1 + \text{give\_up}) / \alpha - 1`. Let :math:`m^*` be the end of the first round as long, or ``n``
  where there is none. Then *every* candidate with :math:`p \le \alpha` had :math:`1 + k \le \alpha (1 + m^*)` after
  :math:`m^*`: those stopped there by their p, those not stopped there because ``k`` was below ``give_up``. The
  candidate's rank among :math:`1 + m^*` random groups is as small with probability :math:`\alpha` at most.

Both are exact for one candidate whose controls are taken as they are. Where these are spread about their mean
(:func:`harness.closure.draw.widening`), the mean is that of the controls evaluated, and moves a little. Where several
candidates are corrected together, all go on until none is worth it; over the same controls the corrected p is never
below p, so that the first holds for it as well.
Source: Besag & Clifford 1991, in rounds that double.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.closure.statistics import exceedances, widened

FIRST = 20
"""Controls of the first round, at least: with as many p can reach 5 %."""


def rounds(n: int, alpha: float, give_up: int | None) -> list[int]:
    """How many controls have been evaluated at the end of each round: 20, 40, 80, ... ``n``.

    The first are enough for p to reach ``alpha``, so that who is given up is not short of controls. One round where
    nobody is given up.
    """
    ends, m = [n], max(FIRST, math.ceil(1 / alpha - 1 - 1e-9))
    while give_up is not None and m < n:
        ends.insert(-1, m)
        m *= 2
    return ends


def hopeless(delta: float, controls: Sequence[float], factor: float, damage: int, give_up: int) -> bool:
    """At least ``give_up`` controls do as much damage, counted as p counts; always, where p cannot be taken."""
    return not math.isfinite(factor) or exceedances(delta, widened(controls, factor), damage) >= give_up
