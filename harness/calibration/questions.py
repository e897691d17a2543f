"""The questions of a calibration that have a share as their answer, one function each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from harness.calibration.share import Share
from harness.calibration.worlds import (
    Draw,
    Profile,
    Setting,
    Worlds,
    lognormal,
    named,
    normal,
    strong_heads,
    strong_layer,
)
from harness.closure.cases import SEQUENCE
from harness.closure.comparison import TESTS, Test
from harness.closure.intervals import beyond_groups, mean_interval
from harness.closure.statistics import benjamini_hochberg, bootstrap_interval
from harness.data.contracts import reseeded
from harness.data.sampling import Group
from harness.util.seeds import rng_for

ALPHA = 0.05
FUTILITY = 10
DRAWS, GROUPS = 10, 20
"""How often the groups of a profile are drawn anew, and how many each time. Each draw is used in several worlds."""
HEADS = (8, 12, 16, 32)
PROFILES: tuple[Profile, ...] = ((2, 1), (2, 2, 2), (4,), (4, 1, 1, 1))
BACKGROUNDS: Mapping[str, Draw] = {
    "normal": normal,
    "lognormal, s = 1": lognormal(1.0),
    "lognormal, s = 2": lognormal(2.0),
    "lognormal, s = 2, mixed signs": lognormal(2.0, (-1, 1)),
    "first layer ten times stronger": strong_layer,
}
CHAIN = "a chain of 3 somewhere"
CASES = (*BACKGROUNDS, CHAIN)
POWER_HEADS = (8, 9, 12, 16, 32)


def level(
    worlds: int,
    stages: Mapping[str, Any],
    heads: Sequence[int] = HEADS,
    profiles: Sequence[Profile] = PROFILES,
) -> Iterator[Share]:
    """How often random groups have p <= .05, by world, profile and test."""
    for n in heads:
        for profile in profiles:
            p_values: dict[tuple[str, Test], list[np.ndarray]] = {}
            for draw in range(DRAWS):
                for key, p in _p_of_random_groups(n, profile, max(1, worlds // DRAWS), stages, draw):
                    p_values.setdefault(key, []).append(passed(p))
            for (case, test), parts in sorted(p_values.items(), key=lambda item: list(CASES).index(item[0][0])):
                yield Share.over_worlds("level", case, n, named(profile), test, np.concatenate(parts))


def power(worlds: int, stages: Mapping[str, Any], heads: Sequence[int] = POWER_HEADS) -> Iterator[Share]:
    """How often circuits have p <= .05, and a strong unit with two passengers, which is none."""
    for n in heads:
        setting = Setting.of(n, 2, stages)
        group, pair = (0, 1, n), (0, n)
        for name, profile, candidate, here in _circuits(setting, worlds, group, pair, rng_for(n, "power")):
            for test in TESTS:
                p = here.p_values(setting.comparisons([candidate], test), FUTILITY)
                yield Share.over_worlds("power", name, n, profile, test, passed(p))


def several_candidates(worlds: int, stages: Mapping[str, Any], heads: int = 12) -> Iterator[Share]:
    """Errors over the candidates of a cell: family-wise of up to three, the false discovery rate of more.

    Three candidates are random groups. Of eight, all are, or three are chains of 3 units and 3 standard deviations;
    each chain has two layers of its own.
    """
    setting, rng = Setting.of(heads, 8, stages), rng_for(heads, "several candidates")
    random_groups = distinct(setting.draw((0, 0, 0, 0, 0, 0, 2, 1), 100, rng), 8)
    chains = [(layer * heads, layer * heads + 1, (layer + 1) * heads) for layer in (0, 2, 4)]
    mixed = [*chains, *random_groups[:5]]
    for name, background in BACKGROUNDS.items():
        effects = setting.effects(background, worlds, rng)
        null = Worlds(effects)
        p = null.p_values(setting.comparisons(random_groups[:SEQUENCE], "exact"), FUTILITY)
        any_passed = passed(p[:, :1])  # in a fixed sequence, any passes if and only if the first does
        yield Share.over_worlds("candidates", f"{name}: 3 random groups", heads, "2+1", "any passes", any_passed)
        p = null.p_values(setting.comparisons(random_groups, "exact", random_groups), FUTILITY)
        any_passed = _discoveries(p).max(axis=1, keepdims=True)
        yield Share.over_worlds("candidates", f"{name}: 8 random groups", heads, "2+1", "any passes", any_passed)
        planted = Worlds(effects, chains=[setting.members([chain]) for chain in chains])
        found = _discoveries(planted.p_values(setting.comparisons(mixed, "exact", mixed), FUTILITY))
        false = found[:, len(chains) :].sum(axis=1, keepdims=True) / np.maximum(found.sum(axis=1, keepdims=True), 1)
        case = f"{name}: 3 chains and 5 random groups"
        yield Share.over_worlds("candidates", case, heads, "2+1", "false among passes", false)
        yield Share.over_worlds("candidates", case, heads, "2+1", "chains that pass", found[:, : len(chains)])


def coverage(worlds: int) -> Iterator[Share]:
    """How often 95 % intervals hold the true mean: of changes over examples, and of damage beyond compared groups."""
    rng = rng_for(0, "coverage")
    for n in (32, 64):
        for name, mean, changes in (
            ("normal", 0.0, rng.standard_normal((worlds, n))),
            ("exponential", 1.0, rng.standard_exponential((worlds, n))),
            ("lognormal", float(np.exp(0.5)), rng.lognormal(0, 1, (worlds, n))),
        ):
            for method, interval in (("bootstrap-t", mean_interval), ("percentile", bootstrap_interval)):
                held = np.array([[_holds(interval(row, seed), mean)] for seed, row in enumerate(changes)])
                yield Share.over_worlds("coverage", f"mean of {n} {name} changes", 0, "", method, held.astype(float))
    for groups in (20, 199):
        held = np.array([[_beyond(groups, 64, seed, rng)] for seed in range(worlds)])
        for i, method in enumerate(("examples and groups", "examples alone")):
            case = f"damage beyond {groups} groups, 64 examples"
            yield Share.over_worlds("coverage", case, 0, "", method, held[:, :, i].astype(float))


def _p_of_random_groups(
    heads: int, profile: Profile, worlds: int, stages: Mapping[str, Any], draw: int
) -> Iterator[tuple[tuple[str, Test], Float[np.ndarray, "worlds groups"]]]:
    """p of random groups in every world, by world and test; without tests that define no p. One draw of all groups."""
    reseeded_stages = {**stages, "controls": reseeded(stages["controls"], draw)}
    setting = Setting.of(heads, max(2, len(profile)), reseeded_stages)
    rng = rng_for(draw, f"{heads} heads, groups of {named(profile)}")
    candidates = distinct(setting.draw(profile, 4 * GROUPS, rng), GROUPS)
    cases = {case: Worlds(setting.effects(background, worlds, rng)) for case, background in BACKGROUNDS.items()}
    chain = setting.members(setting.draw((2, 1) if len(profile) > 1 else (3,), worlds, rng))
    cases[CHAIN] = Worlds(setting.effects(normal, worlds, rng), chains=[chain])
    for test in TESTS:
        comparisons = setting.comparisons(candidates, test)
        for case, here in cases.items():
            p = here.p_values(comparisons, FUTILITY)
            if not np.isnan(p).all():
                yield (case, test), p


def distinct(groups: Sequence[Group], n: int) -> list[Group]:
    """The first ``n`` different groups."""
    return list(dict.fromkeys(groups))[:n]


def passed(p: Float[np.ndarray, "worlds candidates"]) -> Float[np.ndarray, "worlds candidates"]:
    """1 where p is at most alpha, otherwise 0; also where it is not defined."""
    found: Float[np.ndarray, "worlds candidates"] = (np.nan_to_num(p, nan=1.0) <= ALPHA * (1 + 1e-9)).astype(float)
    return found


def _circuits(
    setting: Setting, worlds: int, group: Group, pair: Group, rng: np.random.Generator
) -> Iterator[tuple[str, str, Group, Worlds]]:
    def effects(draw: Draw) -> Float[np.ndarray, "worlds units"]:
        return setting.effects(draw, worlds, rng)

    chain = setting.members([group])
    yield "chain of 3, normal", "2+1", group, Worlds(effects(normal), chains=[chain])
    yield "chain of 3, lognormal, s = 1", "2+1", group, Worlds(effects(lognormal(1.0)), chains=[chain])
    yield "chain of 3, a strong head in each layer", "2+1", group, Worlds(effects(strong_heads), chains=[chain])
    parallel = effects(normal)
    parallel[:, list(group)] += 2
    yield "parallel 3, 6 sd in all", "2+1", group, Worlds(parallel)
    yield "pair that back each other up", "1+1", pair, Worlds(effects(normal), backup=pair)
    others = [setting.members([(2 * i, 2 * i + 1, pair[1] + i)]) for i in (1, 2)]
    yield "chain of 3, two more in its layers", "2+1", group, Worlds(effects(normal), chains=[chain, *others])
    strong = effects(normal)
    strong[:, group[0]] += 6
    yield "a strong head and 2 passengers (no circuit)", "2+1", group, Worlds(strong)


def _discoveries(p: Float[np.ndarray, "worlds candidates"]) -> Float[np.ndarray, "worlds candidates"]:
    found: Float[np.ndarray, "worlds candidates"] = passed(np.array([benjamini_hochberg(row) for row in p.tolist()]))
    return found


def _holds(interval: tuple[float, float] | None, mean: float) -> bool:
    return interval is not None and interval[0] <= mean <= interval[1]


def _beyond(groups: int, examples: int, seed: int, rng: np.random.Generator) -> tuple[bool, bool]:
    """Whether each interval holds the mean: effects of groups (sd 1) and of single examples (sd 1), both random."""
    own = rng.standard_normal(examples)
    others = rng.standard_normal((groups, 1)) + rng.standard_normal((groups, examples))
    alone = mean_interval(own - others.mean(axis=0), seed)
    return _holds(beyond_groups(own, others, seed), 0.0), _holds(alone, 0.0)
