"""Routing mass against causal effect: what each arm of a depth-routing experiment shows, and how arms differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy
from jaxtyping import Bool, Float

from harness.cells.route_effects import Class, RouteEffects
from harness.closure.intervals import mean_interval
from harness.engine.depth_routes import BANDS
from harness.util.errors import HarnessError
from harness.util.seeds import rng_for

APPRECIABLE = 0.1
"""The least share of the weight of a family that has mass."""
NO_ROLE = 0.05
"""A family has no role if both ends of its damage are nearer to 0 than this share of the largest of its sublayers."""
EXCESS = 0.05
"""The least weight above that of fixed routing that makes a motif, and the least difference that makes strata."""
RESAMPLES = 400
PUBLISHED: tuple[Class, ...] = (
    ("early", "mlp", "embedding"),
    ("early", "attn", "current"),
    ("early", "mlp", "current"),
    ("late", "attn", "older"),
)
"""The motifs of Javadov 2026."""


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval, None where there is none."""

    value: float
    interval: tuple[float, float] | None

    def within(self, bound: float) -> bool:
        """Whether the whole interval is nearer to 0 than this."""
        return -bound < self.low and self.high < bound

    @property
    def low(self) -> float:
        """The lower end of the interval."""
        return self.interval[0] if self.interval else -np.inf

    @property
    def high(self) -> float:
        """The upper end of the interval."""
        return self.interval[1] if self.interval else np.inf


@dataclass(frozen=True)
class Largest:
    """In the sublayers of a kind: the unit with the largest mass, that with the largest damage on the examples proposed
    on, and how much more damage it does on the test examples. ``apart``: certainly more."""

    sublayer: str
    mass: str
    effect: str
    difference: Estimate

    @property
    def apart(self) -> bool:
        """Whether the largest mass is certainly not the largest effect."""
        return self.mass != self.effect and self.difference.low > 0


@dataclass(frozen=True)
class Family:
    """All units of a class: their ``mass`` per router, ``excess``: the part above that of fixed routing, and the damage
    when all are removed."""

    of: Class
    mass: float
    excess: float
    damage: Estimate

    @property
    def motif(self) -> bool:
        """Whether it takes certainly needed weight beyond that of fixed routing."""
        return self.excess >= EXCESS and self.damage.low > 0


@dataclass(frozen=True, eq=False)
class Routing:
    """What one model shows."""

    of: RouteEffects

    @cached_property
    def mass(self) -> Float[np.ndarray, " units"]:
        """The mean weight of every unit."""
        return np.asarray(self.of.weights.mean(axis=0, dtype=float))

    @cached_property
    def effect(self) -> Float[np.ndarray, " units"]:
        """The mean damage by every unit, on the test examples."""
        return np.asarray(self.of.alone.mean(axis=0))

    @cached_property
    def sublayers(self) -> list[str]:
        """The kinds of sublayers, MLPs last. The output is none."""
        return sorted(set(self.of.sublayers) - {"out"}, key=lambda each: (each == "mlp", each))

    @cached_property
    def families(self) -> dict[Class, Family]:
        """Every class, by sublayer and origin, and within each band."""
        return {each: self._family(each, changes) for each, changes in self.of.together.items()}

    def idle(self) -> list[Family]:
        """The families with mass and no role."""
        found = []
        for sublayer in self.sublayers:
            families = [family for of, family in self.families.items() if len(of) == 2 and of[0] == sublayer]
            most = max(family.damage.value for family in families)
            found += [f for f in families if f.mass >= APPRECIABLE and f.damage.within(NO_ROLE * most)]
        return found

    def motifs(self) -> list[Family]:
        """The families of a band that take needed weight beyond that of fixed routing."""
        return [family for of, family in self.families.items() if len(of) == 3 and of[1] != "out" and family.motif]

    @cached_property
    def strata(self) -> float:
        """The largest difference between bands in the weight of a family above that of fixed routing."""
        by_family: dict[Class, list[float]] = {}
        for of, family in self.families.items():
            if len(of) == 3 and of[1] != "out":
                by_family.setdefault(of[1:], []).append(family.excess)
        return max((float(np.ptp(excess)) for excess in by_family.values()), default=0.0)

    @cached_property
    def content(self) -> float:
        """Root of the mean variance of weights over examples: 0 if weights do not depend on content."""
        return float(np.sqrt(self.of.weights.var(axis=0, dtype=float).mean()))

    @cached_property
    def ranks(self) -> dict[str, Estimate]:
        """By kind of sublayer: Spearman's correlation of mass and effect over units."""
        return {sublayer: self.rank_agreement(sublayer) for sublayer in self.sublayers}

    @cached_property
    def largest(self) -> dict[str, Largest]:
        """By kind of sublayer: the unit with the largest mass, and that with the largest effect."""
        return {sublayer: self._largest(sublayer) for sublayer in self.sublayers}

    def rank_agreement(self, sublayer: str | None = None) -> Estimate:
        """Spearman's correlation of mass and effect over units, with a bootstrap interval over examples."""
        here = self._in(sublayer)
        if here.sum() < 3:
            return Estimate(np.nan, None)
        rng = rng_for(0, "rank agreement of depth routes")
        means = []
        for values in (self.of.weights[:, here], self.of.alone[:, here]):
            drawn = rng.multinomial(len(values), np.full(len(values), 1 / len(values)), size=RESAMPLES) / len(values)
            means.append(np.vstack([values.mean(axis=0, dtype=float), drawn @ values]))
        found = _correlated(*(scipy.stats.rankdata(np.round(each, 9), axis=1) for each in means))
        low, high = np.nanquantile(found[1:], [0.025, 0.975]) if np.isfinite(found[1:]).any() else (np.nan, np.nan)
        return Estimate(float(found[0]), (float(low), float(high)))

    def _largest(self, sublayer: str) -> Largest:
        here = np.flatnonzero(self._in(sublayer))
        mass, effect = here[np.argmax(self.mass[here])], here[np.argmax(self.of.proposed[here])]
        changes = self.of.alone[:, effect] - self.of.alone[:, mass]
        difference = Estimate(float(changes.mean()), mean_interval(changes, 0))
        return Largest(sublayer, self.of.units[mass], self.of.units[effect], difference)

    def _in(self, sublayer: str | None) -> Bool[np.ndarray, " units"]:
        return np.array([sublayer in (None, each) for each in self.of.sublayers])

    def _family(self, of: Class, changes: Float[np.ndarray, " tested"]) -> Family:
        *band, sublayer, origin = of
        rows = [
            (unit, self.of.origins[unit] == origin)
            for unit in range(len(self.of.units))
            if self.of.sublayers[unit] == sublayer and self.of.bands[unit] in (band or BANDS)
        ]
        routers = len({self.of.readers[unit] for unit, _ in rows})
        members = [unit for unit, inside in rows if inside]
        mass, fixed = self.mass[members].sum() / routers, self.of.fixed[members].sum() / routers
        return Family(of, float(mass), float(mass - fixed), Estimate(float(changes.mean()), mean_interval(changes, 0)))


STATISTICS = ("loss", "strata", "content", "rank, attention", "rank, MLP")


@dataclass(frozen=True, eq=False)
class Arm:
    """The models of one arm, by seed."""

    name: str
    models: tuple[Routing, ...]

    @property
    def seeds(self) -> list[int | None]:
        """The seeds of its models."""
        return [model.of.seed for model in self.models]

    def statistic(self, name: str) -> Float[np.ndarray, " seeds"]:
        """One number for every model; of :data:`STATISTICS`."""
        by_name = {
            "loss": lambda model: model.of.baseline,
            "strata": lambda model: model.strata,
            "content": lambda model: model.content,
            "rank, attention": lambda model: model.ranks[model.sublayers[0]].value,
            "rank, MLP": lambda model: model.ranks["mlp"].value,
        }
        return np.array([by_name[name](model) for model in self.models], dtype=float)

    @property
    def fixed(self) -> bool:
        """Whether no model's weights depend on content or sublayer."""
        return all(model.content < 1e-3 and model.strata < 1e-3 for model in self.models)

    @property
    def error(self) -> float:
        """The largest difference of a weight on any example from that of fixed routing."""
        return max(float(np.abs(model.of.weights - model.of.fixed).max()) for model in self.models)


@dataclass(frozen=True)
class Difference:
    """One statistic of an arm minus that of the first one, in pairs of models with the same seed. ``p``: of the exact
    sign-flip test, two-sided; None with fewer than two pairs."""

    statistic: str
    arm: str
    pairs: int
    estimate: Estimate
    p: float | None


@dataclass(frozen=True, eq=False)
class DepthRouting:
    """All arms on one task. The first one is that with trained routing, if there is one."""

    task: str
    metric: str
    arms: tuple[Arm, ...]

    @classmethod
    def of(cls, measured: Sequence[RouteEffects]) -> DepthRouting:
        """Models by arm. Errors: several tasks, which cannot be compared."""
        if len(tasks := {(each.task, each.metric) for each in measured}) > 1:
            raise HarnessError(
                f"depth: the cells have {len(tasks)} tasks: {'; '.join(sorted(task for task, _ in tasks))}.",
                "Compare arms on one batch, with one intervention and one first metric.",
            )
        by_arm: dict[str, list[RouteEffects]] = {}
        for each in measured:
            by_arm.setdefault(each.arm, []).append(each)
        names = sorted(by_arm, key=lambda name: name != "trained")
        arms = tuple(
            Arm(name, tuple(Routing(each) for each in sorted(by_arm[name], key=lambda each: each.seed or 0)))
            for name in names
        )
        ((task, metric),) = tasks
        return cls(task, metric, arms)

    def differences(self) -> Iterator[Difference]:
        """Every other arm minus the first one."""
        first, *others = self.arms
        for arm in others:
            shared = [seed for seed in arm.seeds if seed in first.seeds]
            for name in STATISTICS:
                mine, theirs = (dict(zip(each.seeds, each.statistic(name), strict=True)) for each in (arm, first))
                yield difference(name, arm.name, np.array([mine[seed] - theirs[seed] for seed in shared], dtype=float))


def difference(statistic: str, arm: str, changes: Float[np.ndarray, " pairs"]) -> Difference:
    """The mean change with a t interval, and the exact p over all signs."""
    changes = changes[np.isfinite(changes)]
    n = len(changes)
    if n == 0:
        return Difference(statistic, arm, 0, Estimate(np.nan, None), None)
    if n == 1:
        return Difference(statistic, arm, 1, Estimate(float(changes[0]), None), None)
    signs = np.array(np.meshgrid(*[[-1, 1]] * min(n, 16))).reshape(min(n, 16), -1)
    flipped = np.abs(signs.T @ changes[:16])
    p = float((flipped >= np.abs(changes[:16].sum()) - 1e-12).mean())
    return Difference(statistic, arm, n, over_seeds(changes), p)


def over_seeds(values: Float[np.ndarray, " seeds"]) -> Estimate:
    """The mean over models, with a t interval."""
    values = values[np.isfinite(values)]
    n = len(values)
    if n < 2:
        return Estimate(float(values.mean()) if n else np.nan, None)
    wide = float(scipy.stats.t.ppf(0.975, n - 1) * values.std(ddof=1) / np.sqrt(n))
    return Estimate(float(values.mean()), (float(values.mean()) - wide, float(values.mean()) + wide))


def counted(arm: Arm) -> Mapping[Class, list[Family]]:
    """The motifs of an arm, each in every model that has it."""
    found: dict[Class, list[Family]] = {}
    for model in arm.models:
        for family in model.motifs():
            found.setdefault(family.of, []).append(family)
    return found


def _correlated(first: Float[np.ndarray, "rows units"], second: Float[np.ndarray, "rows units"]) -> np.ndarray:
    """Pearson's correlation of each pair of rows; NaN where one is constant."""
    first, second = (each - each.mean(axis=1, keepdims=True) for each in (first, second))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((first * second).sum(1) / np.sqrt((first**2).sum(1) * (second**2).sum(1)))
