"""The closure paper's own verdict, beside ours."""

from __future__ import annotations

from collections.abc import Mapping

from harness.closure.statistics import Effect

FLOOR = 1.8
"""The paper's heuristic floor of z."""


def paper_verdict(effects: Mapping[str, Effect]) -> tuple[bool, str]:
    """Whether a group passes by the closure paper's rule, and why.

    Every metric moves in the direction of damage, and the z of at least one is above 1.8 in that direction. The rule
    uses neither p-values nor intervals.

    Source: closure paper, section 3.8.
    """
    wrong = [name.replace("_", " ") for name, effect in effects.items() if effect.damage * effect.delta <= 0]
    z_scores = [effect.damage * effect.z for effect in effects.values() if effect.z is not None]
    highest = max(z_scores, default=0.0)
    if wrong:
        return False, f"{' and '.join(wrong)} not damaged"
    above = highest > FLOOR
    return above, f"every metric is damaged; largest z {highest:.1f}, {'above' if above else 'not above'} {FLOOR}"
