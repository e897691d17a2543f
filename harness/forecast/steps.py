"""The steps of a cell: what each depends on, the seconds they take together, and those they took in finished cells."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.records.record import Record
from harness.util.digest import digest

_RECORDED = ("subject", "batch", "split", "seed", "signal", "labels")
_PROPOSED = (*_RECORDED, "group", "transform", "binarizer", "affinity", "partitioner", "chooser", "selector", "reruns")
TESTED = ("subject", "batch", "split", "seed", "intervention", "metric")
DEPENDS: Mapping[str, tuple[str, ...]] = {
    "subject": ("subject",),
    "batch": ("subject", "batch"),
    "recording": _RECORDED,
    "proposal": _PROPOSED,
    "grow": (*_PROPOSED, "intervention", "metric", "grow"),
    "null": (*_PROPOSED, "intervention", "metric", "null_proposals"),
    "strata null": (*_PROPOSED, "stratifier", "strata_null", "futility"),
    "closure": (*_PROPOSED, *TESTED, "controls", "contrast", "futility", "alpha", "prune", "grow"),
    "size curve": TESTED,
}
"""The parts of a configuration that a step depends on: cells with the same parts compute the step once."""

FEW = 10  # conditions: with this number or fewer, seconds per condition are not estimated


@dataclass(frozen=True)
class Span:
    """Seconds: at least (every candidate is stopped early, for futility) and at most (none is)."""

    least: float
    most: float

    def __add__(self, other: Span) -> Span:
        return Span(self.least + other.least, self.most + other.most)

    @property
    def middle(self) -> float:
        """The geometric mean of both ends."""
        return float((self.least * self.most) ** 0.5)


@dataclass(frozen=True)
class Step:
    """One step of a cell; ``seconds`` is None where they are unknown.

    ``key``: steps with the same key are computed once. ``pool``: steps of the same pool may turn out to be the same
    (methods that propose the same group, shared controls). ``seen``: estimated from finished cells.
    """

    name: str
    seconds: Span | None
    key: str
    pool: str
    seen: bool = False


def total(steps: Sequence[Step]) -> Span | None:
    """Seconds of all steps, each distinct step counted once; None where one is unknown."""
    spans: list[Span] = []
    keys: set[str] = set()
    pools: set[str] = set()
    for step in steps:
        if step.key in keys:
            continue
        if step.seconds is None:
            return None
        spans.append(Span(0.0 if step.pool in pools else step.seconds.least, step.seconds.most))
        keys.add(step.key)
        pools.add(step.pool)
    return sum(spans, Span(0.0, 0.0))


def key_of(name: str, parts: Sequence[str], config: Mapping[str, Any]) -> str:
    """Steps with the same key are computed once."""
    return digest(name, [config.get(part) for part in parts])


@dataclass(frozen=True)
class Measured:
    """Times of finished cells.

    ``steps``: by name and key of a step, its longest time, because a cell that finds the step in the cache takes none.
    ``conditions``: seconds per condition of closure tests, by the key of subject, examples and intervention.
    """

    steps: Mapping[tuple[str, str], float]
    conditions: Mapping[str, Sequence[float]]

    @classmethod
    def of(cls, finished: Iterable[Record]) -> Measured:
        """The times in the records of finished cells."""
        steps: dict[tuple[str, str], float] = {}
        conditions: dict[str, list[float]] = {}
        for record in finished:
            for name in DEPENDS.keys() & record.seconds.keys():
                step = name, key_of(name, DEPENDS[name], record.config)
                steps[step] = max(record.seconds[name], steps.get(step, 0.0))
            if "closure" in record.seconds and (computed := record.cost.get("computed", 0)) > FEW:
                each = conditions.setdefault(key_of("closure", TESTED, record.config), [])
                each.append(record.seconds["closure"] / computed)
        return cls(steps, conditions)

    def seconds(self, name: str, config: Mapping[str, Any], conditions: Span | None) -> Span | None:
        """Seconds of a step. For a closure test: the median seconds per condition times the number of conditions."""
        if name != "closure":
            longest = self.steps.get((name, key_of(name, DEPENDS[name], config)))
            return None if longest is None else Span(longest, longest)
        each = self.conditions.get(key_of("closure", TESTED, config))
        if not each or conditions is None:
            return None
        return Span(statistics.median(each) * conditions.least, statistics.median(each) * conditions.most)
