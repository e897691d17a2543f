"""The verdict: a closed list of outcomes, and an ordered table of rules that chooses one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from harness.closure.comparison import Test
from harness.closure.statistics import Effect

FEWEST = 6
"""Fewer examples cannot show that damage is certain: even if all of them get worse, a sign test has p above .025."""
EQUIVALENT = 0.5
"""A damage counts as absent up to this share of the standard deviation of the compared groups' damage."""

WHOLE = 2 / 3
"""In a joint group every unit adds more than this share of the damage. Of two parts that work independently, the units
of the weaker one add at most half; each link of a chain adds all of it."""


class Verdict(StrEnum):
    """The possible outcomes of a closure test."""

    PASS = "pass"
    WEAK_PASS = "weak_pass"
    REDUNDANT = "redundant"
    NOT_SPECIFIC = "not_specific"
    WRONG_DIRECTION = "wrong_direction"
    NULL = "null"
    INCONCLUSIVE = "inconclusive"
    UNDERPOWERED = "underpowered"
    TASK_NOT_DONE = "task_not_done"


@dataclass(frozen=True)
class Evidence:
    """The input of the rules.

    ``effects``: by metric. ``units``: of the group; ``dispensable`` among them; ``undecided``: those of a large group
    whose contribution was not computed. ``comparable``: how many groups there are to compare it with. ``examples``: how
    many the group is judged on. ``task``: why the model does not do the task; empty if it does, or if this is not
    checked. ``interaction``: the interval of the interaction on the first metric; ``least``: the smallest share of the
    damage that a unit adds; ``joint``: a pass needs an interaction below zero and a share above :data:`WHOLE`.
    ``selection_p``: p against the best groups of the same pipeline on permuted data.
    """

    effects: Mapping[str, Effect]
    alpha: float
    units: Sequence[str] = ()
    dispensable: Sequence[str] = ()
    undecided: int = 0
    comparable: int | None = None
    examples: int | None = None
    task: str = ""
    interaction: tuple[float, float] | None = None
    least: float | None = None
    joint: bool = False
    selection_p: float | None = None
    test: Test = "exact"

    @property
    def deciding(self) -> dict[str, Effect]:
        """Effects on the metrics that decide, except those whose baseline is at its worst value."""
        return {name: effect for name, effect in self.effects.items() if effect.decides and not effect.saturated}

    @property
    def first(self) -> str:
        """The metric that decides first."""
        return next(iter(self.deciding))

    @property
    def first_effect(self) -> Effect:
        """The effect on it."""
        return self.deciding[self.first]

    @property
    def others(self) -> dict[str, Effect]:
        """The effects on the metrics that decide after it."""
        return {name: effect for name, effect in self.deciding.items() if name != self.first}

    def passes(self, name: str) -> bool:
        """The ablation made this metric worse, and the group's statistic is among the largest of its profile."""
        effect = self.effects[name]
        return effect.harmed and effect.p_adjusted is not None and effect.p_adjusted <= self.alpha

    @property
    def not_above(self) -> str:
        """Why a group that does damage does not pass on its first metric."""
        p = self.first_effect.p
        if p is not None and p <= self.alpha:
            return f"p is above {self.alpha:g} once it is corrected for the candidates tested together"
        return "they do not stand out"

    @property
    def chosen_on_test_examples(self) -> bool:
        """The group was chosen on its test examples and is not better than groups of permuted data."""
        return self.selection_p is not None and self.selection_p > self.alpha

    @property
    def separate(self) -> str:
        """Why a group is not shown to be one, where a joint group is asked for, as a sentence; else empty."""
        if not self.joint:
            return ""
        if self.interaction is None or self.interaction[1] >= 0:
            return "its units are not shown to need each other (joint=true asks for it)"
        if self.least is not None and self.least <= WHOLE:
            return (
                f"one unit adds only {self.least:.0%} of the damage, so these may be several groups that are active "
                f"together (joint=true asks for more than {WHOLE:.0%} from each)"
            )
        return ""

    @property
    def weaknesses(self) -> list[str]:
        """What a group lacks that passes on its first metric, as sentences."""
        found = []
        for name, effect in self.others.items():
            if effect.helped:
                found.append(f"{spaced(name)} improves")
            elif not self.passes(name):
                found.append(f"{spaced(name)} does not pass ({self._why_not(effect)})")
        return [*found, *self.spare_parts]

    @property
    def spare_parts(self) -> list[str]:
        """What keeps a group from being a whole, as sentences."""
        found = []
        if self.dispensable:
            core = [unit for unit in self.units if unit not in set(self.dispensable)]
            found.append(f"{_listed(self.dispensable)} can be spared (core: {' '.join(core) or 'none'})")
        if self.separate:
            found.append(self.separate)
        return found

    def _why_not(self, effect: Effect) -> str:
        return self.counted(effect) if effect.harmed else "no certain damage"

    def counted(self, effect: Effect) -> str:
        """What p counts, in words."""
        n = len(effect.controls)
        compared = "groups of the same profile" if self.test == "exact" else "control groups"
        what = "are at least as necessary" if self.test == "exact" else "do at least as much damage"
        if effect.p is None or not n:
            return f"no {compared} to compare it with"
        k = round(effect.p * (1 + n)) - 1
        words = f"{k} of {n} {compared} {what}, p {_p(effect.p)}"
        if effect.p_adjusted is not None and effect.p_adjusted > effect.p * (1 + 1e-9):
            words += f"; {_p(effect.p_adjusted)} after correction"
        return words


@dataclass(frozen=True)
class Rule:
    """One line of the table: if it ``holds``, this is the verdict, for this ``reason``."""

    verdict: Verdict
    holds: Callable[[Evidence], bool]
    reason: Callable[[Evidence], str]


# The first rule that holds decides. Metrics are those that decide.
RULES: tuple[Rule, ...] = (
    Rule(Verdict.TASK_NOT_DONE, lambda e: bool(e.task), lambda e: e.task.rstrip(".")),
    Rule(Verdict.UNDERPOWERED, lambda e: e.examples == 0, lambda _: "the group is active on no example"),
    Rule(
        Verdict.UNDERPOWERED,
        lambda e: not e.deciding,
        lambda _: "every metric that decides is already at its worst value",
    ),
    Rule(
        Verdict.UNDERPOWERED,
        lambda e: e.examples is not None and e.examples < FEWEST,
        lambda e: f"{e.examples} examples are not enough: no damage is certain with fewer than {FEWEST}",
    ),
    Rule(
        Verdict.UNDERPOWERED,
        lambda e: any(effect.bound is None for effect in e.deciding.values()),
        lambda _: "a confidence interval needs two examples (of two documents, where examples have documents)",
    ),
    Rule(
        Verdict.UNDERPOWERED,
        lambda e: (e.comparable is not None and not enough(e.comparable, e.alpha)) or e.first_effect.p is None,
        lambda e: (
            f"{e.comparable or 'no'} other groups can be compared with it; p <= {e.alpha:g} needs {needed(e.alpha)}"
        ),
    ),
    Rule(
        Verdict.WRONG_DIRECTION,
        lambda e: e.first_effect.helped,
        lambda e: f"ablating these units improves {spaced(e.first)}",
    ),
    Rule(
        Verdict.NULL,
        lambda e: not e.first_effect.harmed and bounded(e.first_effect),
        lambda e: (
            f"ablating these units damages {spaced(e.first)} by at most {max(0.0, e.first_effect.bound or 0.0):.3g}, "
            f"no more than {EQUIVALENT:g} standard deviations of the compared groups"
        ),
    ),
    Rule(
        Verdict.INCONCLUSIVE,
        lambda e: not e.first_effect.harmed,
        lambda e: (
            f"no damage to {spaced(e.first)} is certain, and one of up to {e.first_effect.bound:.3g} is not "
            "excluded: more examples are needed (batch.n=...)"
        ),
    ),
    Rule(
        Verdict.NOT_SPECIFIC,
        lambda e: not e.passes(e.first),
        lambda e: f"ablating these units damages {spaced(e.first)}, but {e.not_above} ({e.counted(e.first_effect)})",
    ),
    Rule(
        Verdict.NOT_SPECIFIC,
        lambda e: e.chosen_on_test_examples,
        lambda _: (
            "the group was chosen on its test examples, and groups chosen alike on permuted data do as much damage"
        ),
    ),
    Rule(
        Verdict.PASS,
        lambda e: not e.weaknesses,
        lambda e: (
            f"ablating these units damages {_listed([spaced(name) for name in e.deciding])}{_needed(e)}: "
            f"{e.counted(e.first_effect)}"
        ),
    ),
    Rule(
        Verdict.REDUNDANT,
        lambda e: bool(e.others) and all(unchanged(effect) for effect in e.others.values()),
        lambda e: "; ".join(
            [
                f"ablating these units damages {spaced(e.first)} ({e.counted(e.first_effect)}) and leaves "
                f"{_listed([spaced(name) for name in e.others])} unchanged: other units may compensate for them",
                *e.spare_parts,
            ]
        ),
    ),
    Rule(
        Verdict.WEAK_PASS,
        lambda _: True,
        lambda e: (
            f"ablating these units damages {spaced(e.first)} ({e.counted(e.first_effect)}), but "
            f"{'; '.join(e.weaknesses)}"
        ),
    ),
)


def decide(evidence: Evidence) -> tuple[Verdict, str]:
    """The first rule that holds, and its reason as a sentence."""
    rule = next(rule for rule in RULES if rule.holds(evidence))
    reason = rule.reason(evidence)
    return rule.verdict, f"{reason[:1].upper()}{reason[1:]}."


def decision_order(effects: Mapping[str, Effect]) -> list[str]:
    """The order in which metrics decide: as listed. Those that are at their worst value or do not decide come last."""
    return sorted(effects, key=lambda name: not effects[name].decides or effects[name].saturated)


def enough(groups: int, alpha: float) -> bool:
    """Whether this many groups allow p <= ``alpha``: the smallest possible p is 1 / (1 + n)."""
    return alpha * (1 + groups) >= 1 - 1e-9


def needed(alpha: float) -> int:
    """The smallest number of groups that allows p <= ``alpha``."""
    return math.ceil(1 / alpha - 1e-9) - 1


def bounded(effect: Effect) -> bool:
    """Whether the damage is certainly small, compared with the spread of the compared groups' damage."""
    return effect.bound is not None and effect.bound <= EQUIVALENT * effect.spread


def unchanged(effect: Effect) -> bool:
    """Whether neither damage nor improvement is certain, and the damage is certainly small."""
    return not effect.harmed and not effect.helped and bounded(effect)


def _needed(e: Evidence) -> str:
    if e.test == "disjoint" or len(e.units) == 1:
        return ""
    computed = f" of the {len(e.units) - e.undecided} that were examined" if e.undecided else ""
    return f", and each unit{computed} is needed"


def spaced(name: str) -> str:
    """A name as words."""
    return name.replace("_", " ")


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _p(p: float) -> str:
    return f"{p:.3f}" if p >= 0.001 else f"{p:.1e}"
