"""p-values of a cell, corrected over its candidates and metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate

from harness.closure.cases import SEQUENCE
from harness.closure.statistics import Effect, benjamini_hochberg
from harness.closure.verdict import decision_order


def corrected(cell: Sequence[Mapping[str, Effect]], testable: Sequence[int]) -> list[dict[str, Effect]]:
    """The effects of a cell's candidates with corrected p-values: over candidates, then over metrics.

    ``testable``: places of the candidates that can reach the level. Candidates: up to ``SEQUENCE`` are tested in the
    selector's order on the metric that decides first, each one only if those before it were significant; more by
    Benjamini-Hochberg. Metrics are tested in a fixed order in the same way. In a fixed sequence each test has the full
    level, and its corrected p is the largest so far (Maurer, Hothorn & Lehmacher 1995). Saturated metrics are not
    tested.
    """
    found: list[dict[str, Effect]] = [{} for _ in cell]
    for place, name in enumerate(decision_order(cell[0]) if cell else ()):
        over_candidates = _over_candidates([effects[name] for effects in cell], testable, first=place == 0)
        for effects, done, p in zip(cell, found, over_candidates, strict=True):
            before = [effect.p_adjusted for effect in done.values() if effect.p_adjusted is not None]
            done[name] = replace(effects[name], p_adjusted=None if p is None else max([p, *before]))
    return [{name: done[name] for name in effects} for effects, done in zip(cell, found, strict=True)]


def _over_candidates(effects: Sequence[Effect], testable: Sequence[int], first: bool) -> list[float | None]:
    """One metric's p by candidate, corrected over the candidates that are ``testable``."""
    p_values = [None if effect.saturated else effect.p for effect in effects]
    tested = [(i, p) for i in testable if (p := p_values[i]) is not None]
    places, raw = [i for i, _ in tested], [p for _, p in tested]
    adjusted: Sequence[float] = raw
    if len(effects) > SEQUENCE:
        adjusted = benjamini_hochberg(raw)
    elif first:
        adjusted = list(accumulate(raw, max))
    for i, p in zip(places, adjusted, strict=True):
        p_values[i] = p
    return p_values
