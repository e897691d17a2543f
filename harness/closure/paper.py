"""The closure paper's own verdict, beside ours."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from harness.closure.statistics import Effect
from harness.closure.verdict import Verdict, spaced

FLOOR = 1.8
"""The paper's heuristic floor of z."""


def paper_verdict(effects: Mapping[str, Effect]) -> tuple[Verdict, str]:
    """The verdict by the closure paper's criteria, which use neither intervals nor p-values, and its reason.

    Every metric moves in the direction of damage (else ``wrong_direction``, or ``null`` where no metric gets worse). At
    least one lies more than 1.8 standard deviations of its controls beyond their mean, and no control raises loss as
    much (else ``not_specific``). The paper does not give its bound on the share of such controls; in every test that
    passed, the share was zero.

    Source: closure paper, section 3.8.
    """
    worse = {spaced(name): effect.damage * effect.delta for name, effect in effects.items()}
    if not all(change > 0 for change in worse.values()):
        verdict = Verdict.WRONG_DIRECTION if any(worse.values()) else Verdict.NULL
        return verdict, f"{', '.join(name for name, change in worse.items() if change <= 0)} not damaged"
    highest = max(_beyond_mean(effect) for effect in effects.values())
    if highest <= FLOOR:
        return Verdict.NOT_SPECIFIC, f"every metric is damaged, but no z is above {FLOOR} (largest {highest:.1f})"
    loss = effects.get("loss")
    if loss is not None and max(loss.controls, default=-np.inf) >= loss.delta:
        return Verdict.NOT_SPECIFIC, "every metric is damaged, but a control raises loss as much"
    return Verdict.PASS, f"every metric is damaged, the largest z is {highest:.1f}"


def _beyond_mean(effect: Effect) -> float:
    """How many standard deviations of its controls the damage lies beyond their mean."""
    if not effect.controls:
        return 0.0
    distance, spread = effect.damage * (effect.delta - np.mean(effect.controls)), np.std(effect.controls)
    return float(distance / spread) if spread > 0 else float(np.copysign(np.inf, distance) if distance else 0.0)
