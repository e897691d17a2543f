r"""Sequential stopping: the test of a candidate ends early when many controls do as much damage as it does.

p is :math:`(1 + k) / (1 + m)` over the first ``m`` controls, ``k`` of which do at least as much damage. The test stops
at the first ``m`` at which ``k`` is ``futility``. With ``n`` controls drawn, at level :math:`\alpha`:

- If ``futility`` :math:`> \alpha (1 + n) - 1`, the same candidates have :math:`p \le \alpha` as with all ``n``
  controls. ``k`` only grows, so with all of them :math:`1 + k \ge 1 + \text{futility} > \alpha (1 + n)`, hence :math:`p
  > \alpha`; and where the test stopped, :math:`m \le n` makes p no smaller. For ``n`` = 99 at 5 %, ``futility`` = 10 is
  enough.
- The level is always kept. Let :math:`m^*` be the smallest number of controls with :math:`1 + \text{futility} \le
  \alpha (1 + m^*)`, or ``n`` if there are fewer. *Every* candidate with :math:`p \le \alpha` has :math:`1 + k \le
  \alpha (1 + m^*)` among the first :math:`m^*`: if its test stopped, it stopped at :math:`m^*` or later, and ``k`` was
  at most ``futility`` until then; if it did not stop, ``k`` stayed below ``futility``. The candidate's rank among
  :math:`1 + m^*` random groups is this small with a probability of at most :math:`\alpha`.

Both statements are exact for the exact test. The groups of the former test are spread about the mean of those counted
so far (:func:`harness.data.sampling.inflation`), which changes a little. Source: Besag & Clifford 1991.

Groups are evaluated in rounds, because many at once cost less than one after the other. Groups of the last round that
come after the stopping point are not counted, so the sizes of rounds change no result.
"""

from __future__ import annotations

import math

MIN_CONTROLS = 10
"""No test stops before this many controls: fewer say little about their spread."""


def first_round(n: int, futility: int | None) -> int:
    """Number of controls in the first round: all ``n`` without early stopping."""
    return n if futility is None else min(n, max(MIN_CONTROLS, futility))


def next_round(m: int, k: int, futility: int) -> int:
    """How many more controls to evaluate after ``m``, ``k`` of which do as much damage.

    Half of the controls that are needed to reach ``futility`` at the present rate, but at least the smallest number
    that can reach it.
    """
    needed = futility - k
    return max(needed, math.ceil(needed * (m + 1) / (k + 1) / 2))


def expected_controls(n: int, futility: int | None) -> int:
    """Controls evaluated for a candidate that does as much damage as the median random group."""
    return n if futility is None else min(n, max(MIN_CONTROLS, 2 * futility))
