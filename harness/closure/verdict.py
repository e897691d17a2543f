"""The verdict: a closed list of outcomes, and an ordered table of rules that chooses one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from harness.closure.statistics import Effect

PRIMARY = "target_logit"
LOSS = "loss"


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
    ``alpha``. ``primary`` is the target logit where it is measured, else the first metric that is not loss.
    ``selection_p``: p against the best groups of the same pipeline on permuted data. ``stopped_early``: not all
    controls were evaluated.
    """

    effects: Mapping[str, Effect]
    alpha: float
    selection_p: float | None = None
    stopped_early: bool = False

    @property
    def usable(self) -> dict[str, Effect]:
        """Effects on metrics whose baseline is not at its worst value."""
        return {name: effect for name, effect in self.effects.items() if not effect.saturated}

    @property
    def primary(self) -> str:
        """The metric that decides first."""
        return decision_order(self.usable)[0]

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
            for effect in self.usable.values()
        )


@dataclass(frozen=True)
class Rule:
    """One line of the table: if it ``holds``, this is the verdict, for this ``reason``."""

    verdict: Verdict
    reason: str
    holds: Callable[[Evidence], bool]


# The first rule that holds decides. Direction precedes specificity; loss alone never decides.
RULES: tuple[Rule, ...] = (
    Rule(
        Verdict.UNDERPOWERED,
        "every metric except loss is already at its worst value or not measured, and loss alone does not decide",
        lambda e: not set(e.usable) - {LOSS},
    ),
    Rule(
        Verdict.UNDERPOWERED,
        "one example is not enough for a confidence interval",
        lambda e: any(effect.interval is None for effect in e.usable.values()),
    ),
    Rule(
        Verdict.UNDERPOWERED,
        "too few units are left to draw control groups from: no p-value can reach alpha",
        lambda e: not e.reachable,
    ),
    Rule(
        Verdict.WRONG_DIRECTION,
        "ablating these units improves at least one metric",
        lambda e: any(e.helped(name) for name in e.usable),
    ),
    Rule(
        Verdict.NULL, "ablating these units damages no metric", lambda e: not any(e.harmed(name) for name in e.usable)
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
        lambda e: len(e.usable) > 1 and all(e.exceeds_controls(name) for name in e.usable),
    ),
    Rule(
        Verdict.REDUNDANT,
        "ablating these units damages the primary metric only: other units may compensate for them",
        lambda e: len(e.usable) > 1 and not any(e.harmed(name) for name in e.usable if name != e.primary),
    ),
    Rule(
        Verdict.WEAK_PASS,
        "ablating these units damages the primary metric significantly more than ablating matched random groups, "
        "but not every metric",
        lambda e: True,  # noqa: ARG005  # the last rule covers all remaining cases
    ),
)


def decide(
    effects: Mapping[str, Effect], alpha: float, selection_p: float | None = None, stopped_early: bool = False
) -> tuple[Verdict, str]:
    """The first rule that holds, and its reason."""
    evidence = Evidence(effects, alpha, selection_p, stopped_early)
    rule = next(rule for rule in RULES if rule.holds(evidence))
    return rule.verdict, rule.reason


def decision_order(metrics: Iterable[str]) -> list[str]:
    """The order in which metrics decide: the target logit, then the others as listed, then loss."""
    return sorted(metrics, key=lambda name: (name != PRIMARY, name == LOSS))


def enough(controls: int, alpha: float) -> bool:
    """Whether this many controls allow p <= ``alpha``: the smallest possible p is 1 / (1 + n)."""
    return alpha * (1 + controls) >= 1 - 1e-9


def _side(effect: Effect) -> int:
    """+1: the whole interval lies on the damage side of zero; -1: on the other side; 0: it contains zero."""
    if effect.interval is None:
        return 0
    low, high = sorted(effect.damage * bound for bound in effect.interval)
    return 1 if low > 0 else -1 if high < 0 else 0
