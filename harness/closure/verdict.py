"""The verdict: a closed list of outcomes, and an ordered table of rules that chooses one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from harness.closure.statistics import Effect


class Verdict(StrEnum):
    """The possible outcomes of a closure test."""

    PASS = "pass"
    WEAK_PASS = "weak_pass"
    REDUNDANT = "redundant"
    NOT_SPECIFIC = "not_specific"
    WRONG_DIRECTION = "wrong_direction"
    NULL = "null"
    UNDERPOWERED = "underpowered"


@dataclass(frozen=True)
class Evidence:
    """The input of the rules: the effects, and the level ``alpha``.

    A metric is *harmed* if its whole 95 % interval lies on the damage side of zero, *helped* if it lies on the other
    side. It *exceeds controls* if it is harmed and its p, corrected over the cell's metrics and candidates, is at most
    ``alpha``. ``selection_p``: p against the best groups of the same pipeline on permuted data. ``stopped_early``: not
    all controls were evaluated. ``examples``: how many the group is judged on.
    """

    effects: Mapping[str, Effect]
    alpha: float
    selection_p: float | None = None
    stopped_early: bool = False
    examples: int | None = None

    @property
    def deciding(self) -> dict[str, Effect]:
        """Effects on the metrics that decide, except those whose baseline is at its worst value."""
        return {name: effect for name, effect in self.effects.items() if effect.decides and not effect.saturated}

    @property
    def primary(self) -> str:
        """The metric that decides first."""
        return next(iter(self.deciding))

    def harmed(self, name: str) -> bool:
        """The ablation made this metric worse."""
        return _side(self.effects[name]) > 0

    def helped(self, name: str) -> bool:
        """The ablation made this metric better."""
        return _side(self.effects[name]) < 0

    def exceeds_controls(self, name: str) -> bool:
        """The ablation made this metric worse, and significantly more so than ablating matched random groups."""
        p = self.effects[name].p_adjusted
        return self.harmed(name) and p is not None and p <= self.alpha

    @property
    def reachable(self) -> bool:
        """There are enough controls for p to reach ``alpha``. Testing stops early only if there are enough."""
        return all(
            effect.p is not None and (self.stopped_early or enough(len(effect.controls), self.alpha))
            for effect in self.deciding.values()
        )


@dataclass(frozen=True)
class Rule:
    """One line of the table: if it ``holds``, this is the verdict, for this ``reason``."""

    verdict: Verdict
    reason: str
    holds: Callable[[Evidence], bool]


# The first rule that holds decides. Direction precedes specificity. Metrics are those that decide.
RULES: tuple[Rule, ...] = (
    Rule(
        Verdict.UNDERPOWERED,
        "there is no example on which the group is active",
        lambda e: e.examples == 0,
    ),
    Rule(
        Verdict.UNDERPOWERED,
        "every metric that decides is already at its worst value",
        lambda e: not e.deciding,
    ),
    Rule(
        Verdict.UNDERPOWERED,
        "one example is not enough for a confidence interval",
        lambda e: any(effect.interval is None for effect in e.deciding.values()),
    ),
    Rule(
        Verdict.UNDERPOWERED,
        "too few units are left to draw control groups from: no p-value can reach alpha",
        lambda e: not e.reachable,
    ),
    Rule(
        Verdict.WRONG_DIRECTION,
        "ablating these units improves at least one metric",
        lambda e: any(e.helped(name) for name in e.deciding),
    ),
    Rule(
        Verdict.NULL, "ablating these units damages no metric", lambda e: not any(e.harmed(name) for name in e.deciding)
    ),
    Rule(
        Verdict.NOT_SPECIFIC,
        "ablating these units does damage, but not significantly more than ablating matched random groups",
        lambda e: not e.exceeds_controls(e.primary),
    ),
    Rule(
        Verdict.NOT_SPECIFIC,
        "the group was chosen on its test examples, and groups chosen alike on permuted data do as much damage",
        lambda e: e.selection_p is not None and e.selection_p > e.alpha,
    ),
    Rule(
        Verdict.PASS,
        "ablating these units damages every metric significantly more than ablating matched random groups",
        lambda e: all(e.exceeds_controls(name) for name in e.deciding),
    ),
    Rule(
        Verdict.REDUNDANT,
        "ablating these units damages the primary metric only: other units may compensate for them",
        lambda e: not any(e.harmed(name) for name in e.deciding if name != e.primary),
    ),
    Rule(
        Verdict.WEAK_PASS,
        "ablating these units damages the primary metric significantly more than ablating matched random groups, "
        "but not every metric",
        lambda e: True,  # noqa: ARG005  # the last rule covers all remaining cases
    ),
)


def decide(
    effects: Mapping[str, Effect],
    alpha: float,
    selection_p: float | None = None,
    stopped_early: bool = False,
    examples: int | None = None,
) -> tuple[Verdict, str]:
    """The first rule that holds, and its reason."""
    evidence = Evidence(effects, alpha, selection_p, stopped_early, examples)
    rule = next(rule for rule in RULES if rule.holds(evidence))
    return rule.verdict, rule.reason


def decision_order(effects: Mapping[str, Effect]) -> list[str]:
    """The order in which metrics decide: as listed. Those that do not decide come last."""
    return sorted(effects, key=lambda name: not effects[name].decides)


def enough(controls: int, alpha: float) -> bool:
    """Whether this many controls allow p <= ``alpha``: the smallest possible p is 1 / (1 + n)."""
    return alpha * (1 + controls) >= 1 - 1e-9


def _side(effect: Effect) -> int:
    """+1: the whole interval lies on the damage side of zero; -1: on the other side; 0: it contains zero."""
    if effect.interval is None:
        return 0
    low, high = sorted(effect.damage * bound for bound in effect.interval)
    return 1 if low > 0 else -1 if high < 0 else 0
