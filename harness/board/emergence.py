"""The rules of training time: when a class has its attention, when the model needs it, and which of both is missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.closure.verdict import Verdict

SELECTIVE = 30.0
"""Selectivity from which a unit has a class: the survey's threshold, as published."""
RICH = 15.0
"""Participation ratio from which a head has emerged, as published (for heads of 64 and more dimensions)."""
FUNCTION = (Verdict.PASS, Verdict.WEAK_PASS, Verdict.REDUNDANT)
"""Verdicts by which the model needs the group."""
NO_FUNCTION = (Verdict.NULL, Verdict.WRONG_DIRECTION, Verdict.TASK_NOT_DONE)
"""Verdicts by which it does not. The others leave it open: too few groups or examples, or unspecific damage."""
FORM_ONLY, FUNCTION_ONLY = "form without function", "function without form"


@dataclass(frozen=True)
class Figure:
    """A number with its 95 % interval; None: it has none (a published number)."""

    value: float
    interval: tuple[float, float] | None = None

    @property
    def low(self) -> float:
        """The lower end of the interval."""
        return self.interval[0] if self.interval else self.value

    @property
    def high(self) -> float:
        """The upper end of the interval."""
        return self.interval[1] if self.interval else self.value


@dataclass(frozen=True)
class Crossing:
    """The step at which something is there for the first time, and the checkpoint before. None: it was there at the
    first checkpoint."""

    step: int
    after: int | None = None

    def __str__(self) -> str:
        """``800 (after 600)``."""
        return f"{self.step}{'' if self.after is None else f' (after {self.after})'}"


def first(steps: Sequence[int], there: Sequence[bool]) -> Crossing | None:
    """The first step at which it is there. None: it never is."""
    place = next((i for i, each in enumerate(there) if each), None)
    return None if place is None else Crossing(steps[place], steps[place - 1] if place else None)


def half_risen(steps: Sequence[int], values: Sequence[float]) -> Crossing | None:
    r"""The first step after the minimum at which a figure has made half of its rise.

    .. math:: v_t \ge \tfrac12 (v_{\min} + \max_{s > t_{\min}} v_s), \qquad t > t_{\min}

    The participation ratio is high at initialisation and falls first, so the rise is counted from its minimum. None: it
    does not rise after its minimum.
    """
    lowest = min(range(len(values)), key=lambda i: values[i])
    later = range(lowest + 1, len(values))
    half = (values[lowest] + max((values[i] for i in later), default=values[lowest])) / 2
    place = next((i for i in later if values[i] >= half > values[lowest]), None)
    return None if place is None else Crossing(steps[place], steps[place - 1])


def decoupled(selectivity: Figure | None, verdict: Verdict) -> str:
    """Which of both is missing at a checkpoint; empty: neither is, or one of them is not certain.

    - ``form without function``: the whole interval of the selectivity is at or above 30, and ablation does no certain
      damage (:data:`NO_FUNCTION`).
    - ``function without form``: the whole interval is below 30, and the group passes (:data:`FUNCTION`).
    """
    if selectivity is None:
        return ""
    if selectivity.low >= SELECTIVE and verdict in NO_FUNCTION:
        return FORM_ONLY
    return FUNCTION_ONLY if selectivity.high < SELECTIVE and verdict in FUNCTION else ""
