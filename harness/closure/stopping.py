r"""Sequential stopping: a candidate that many controls equal is given up, as if controls came one by one.

p is :math:`(1 + k) / (1 + m)` over the first ``m`` controls, ``k`` of which do at least as much damage. A candidate is
given up at the first ``m`` at which ``k`` is ``futility``; with ``n`` of them drawn, at level :math:`\alpha`:

- Where ``futility`` :math:`> \alpha (1 + n) - 1`, who has :math:`p \le \alpha` is the same as if all ``n`` were always
  counted. ``k`` only grows, so with all of them :math:`1 + k \ge 1 + \text{futility} > \alpha (1 + n)`, hence
  :math:`p > \alpha`; and where the candidate was given up, :math:`m \le n` makes p no smaller. Ten do for ``n`` = 99
  at 5 %.
- Everywhere the level is kept. Let :math:`m^*` be the fewest controls with :math:`1 + \text{futility} \le \alpha (1 +
  m^*)`, or ``n`` where there are not as many. *Every* candidate with :math:`p \le \alpha` has :math:`1 + k \le \alpha
  (1 + m^*)` among the first :math:`m^*`: if it was given up, then at :math:`m^*` or later, and ``k`` was at most
  ``futility`` until then; if it was not, ``k`` stayed below. The candidate's rank among :math:`1 + m^*` random groups is
  as small with probability :math:`\alpha` at most.

Both are exact for one candidate whose controls are taken as they are. Where these are spread about their mean
(:func:`harness.data.sampling.inflation`), the mean is that of the controls counted, and moves a little. Where several
candidates are corrected together, all go on until none is worth it; over the same controls the corrected p is never
below p, so that the first holds for it as well.
Source: Besag & Clifford 1991.

Many controls are evaluated at once, because that costs less than one after the other. Of the last round those that
come after the end are not counted, so how they are dealt out to rounds changes no result.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.closure.statistics import exceedances, inflated

FIRST = 10
"""Nobody is given up before as many controls: fewer tell little of their spread."""


def first_round(n: int, futility: int | None) -> int:
    """Controls that are evaluated in any case; all ``n`` where nobody is given up."""
    return n if futility is None else min(n, max(FIRST, futility))


def another_round(m: int, k: int, futility: int) -> int:
    """How many more to evaluate after ``m``, ``k`` of which do as much damage.

    Half of what it takes to reach ``futility`` at the present rate, and no fewer than could be enough.
    """
    needed = futility - k
    return max(needed, math.ceil(needed * (m + 1) / (k + 1) / 2))


def middling(n: int, futility: int | None) -> int:
    """Controls that a candidate takes which does no more than half of all random groups do."""
    return n if futility is None else min(n, max(FIRST, 2 * futility))


def as_bad(delta: float, controls: Sequence[float], factor: float, damage: int) -> float:
    """How many controls do at least as much damage, counted as p counts; without end where p cannot be taken."""
    return float(exceedances(delta, inflated(controls, factor), damage)) if math.isfinite(factor) else math.inf
