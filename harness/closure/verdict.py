"""The verdict: a closed list of outcomes, and one ordered table of rules that decides between them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from harness.closure.statistics import Effect

PRIMARY = "target_logit"
LOSS = "loss"


class Verdict(StrEnum):
    """What a closure test can say of a group."""

    PASS = "pass"
    WEAK_PASS = "weak_pass"
    REDUNDANT = "redundant"
    NOT_SPECIFIC = "not_specific"
    WRONG_DIRECTION = "wrong_direction"
    NULL = "null"
    UNDERPOWERED = "underpowered"


@dataclass(frozen=True)
class Evidence:
    """What the rules look at: the effects that can show damage at all, and the level.

    A metric is *harmed* where its whole interval lies on the damage side of zero, *helped* where it lies on the other,
    and *beats controls* where its p, corrected over the cell's metrics and candidates, is at most ``alpha``.
    ``primary`` is the target logit where it is measured, else the first metric that is not loss. ``selection_p`` holds
    the candidate against the best groups of the same pipeline on permuted data. ``stopped_early``: there are more controls
    than those it was held against.
    """

    effects: Mapping[str, Effect]
    alpha: float
    selection_p: float | None = None
    stopped_early: bool = False

    @property
    def usable(self) -> dict[str, Effect]:
        """Metrics whose baseline leaves room for damage."""
        return {name: effect for name, effect in self.effects.items() if not effect.saturated}

    @property
    def primary(self) -> str:
        """The metric asked first."""
        return decision_order(self.usable)[0]

    def harmed(self, name: str) -> bool:
        """The ablation certainly made this metric worse."""
        return _side(self.effects[name]) > 0

    def helped(self, name: str) -> bool:
        """The ablation certainly made this metric better."""
        return _side(self.effects[name]) < 0

    def beats(self, name: str) -> bool:
        """It did so more than it does for matched random groups."""
        p = self.effects[name].p_adjusted
        return self.harmed(name) and p is not None and p <= self.alpha

    @property
    def reachable(self) -> bool:
        """There are controls enough for the smallest p there is to reach ``alpha``; nobody is given up where not."""
        return all(
            effect.p is not None and (self.stopped_early or enough(len(effect.controls), self.alpha))
            for effect in self.usable.values()
        )


@dataclass(frozen=True)
class Rule:
    """One line of the table: if ``holds``, this is the verdict, because of ``reason``."""

    verdict: Verdict
    reason: str
    holds: Callable[[Evidence], bool]


# Read from the top; the first that holds decides. Direction comes first, loss alone never decides.
RULES: tuple[Rule, ...] = (
    Rule(
        Verdict.UNDERPOWERED,
        "no metric but loss has room to fall, and loss alone never decides",
        lambda e: not set(e.usable) - {LOSS},
    ),
    Rule(
        Verdict.UNDERPOWERED,
        "one example says nothing about how sure an effect is",
        lambda e: any(effect.interval is None for effect in e.usable.values()),
    ),
    Rule(
        Verdict.UNDERPOWERED,
        "so few units are left for control groups that no p-value can reach the level",
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
        "ablating these units does damage, but matched random groups do as much",
        lambda e: not e.beats(e.primary),
    ),
    Rule(
        Verdict.NOT_SPECIFIC,
        "chosen on the examples it is tested on, and groups chosen in the same way on permuted data do as much damage",
        lambda e: e.selection_p is not None and e.selection_p > e.alpha,
    ),
    Rule(
        Verdict.PASS,
        "ablating these units damages every metric more than matched random groups do",
        lambda e: len(e.usable) > 1 and all(e.beats(name) for name in e.usable),
    ),
    Rule(
        Verdict.REDUNDANT,
        "the primary metric falls more than for matched random groups, but nothing else does: something takes over",
        lambda e: len(e.usable) > 1 and not any(e.harmed(name) for name in e.usable if name != e.primary),
    ),
    Rule(
        Verdict.WEAK_PASS,
        "ablating these units damages the primary metric more than matched random groups do, but not every metric",
        lambda e: True,  # noqa: ARG005  # the last line of the table takes what is left
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
    """The order in which metrics are asked: the target logit, then the others as they are listed, loss last."""
    return sorted(metrics, key=lambda name: (name != PRIMARY, name == LOSS))


def enough(controls: int, alpha: float) -> bool:
    """Whether as many controls can give a p as small as ``alpha``: 1 / (1 + n) is the smallest there is."""
    return alpha * (1 + controls) >= 1 - 1e-9


def _side(effect: Effect) -> int:
    """+1: the interval lies wholly on the damage side of zero; -1: wholly on the other; 0: it holds zero."""
    if effect.interval is None:
        return 0
    low, high = sorted(effect.damage * bound for bound in effect.interval)
    return 1 if low > 0 else -1 if high < 0 else 0
