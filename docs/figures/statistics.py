"""Every number on docs/statistics.md, and its figure: computed with the harness's own functions (`make figures`).

The numbers on trained models are those of leaderboards/calibration, which `make calibration` measures.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from scipy.stats import chi2, hypergeom, norm, t

from harness.calibration.questions import BACKGROUNDS, coverage, level, power, several_candidates
from harness.calibration.share import Share
from harness.calibration.worlds import Profile, named
from harness.cells.cell import Cell
from harness.closure.anatomy import interaction
from harness.closure.comparison import Exact
from harness.closure.necessity import DISPENSABLE, Damage, Parts
from harness.closure.stopping import first_round
from harness.closure.verdict import EQUIVALENT
from harness.data.sampling import Group
from harness.data.units import UnitSpace
from harness.registry.config import registry, resolve

DOCS = Path(__file__).resolve().parents[1]
CALIBRATION = DOCS.parent / "leaderboards" / "calibration" / "calibration.json"
ALPHA = 0.05
TRIED = 8
"""Candidates of a cell, of which the best one counts."""
LEVELS: Sequence[tuple[int, Profile]] = (
    (8, (2, 1)), (8, (2, 2, 2)), (8, (4, 1, 1, 1)), (12, (4,)), (16, (2, 1)), (32, (2, 1)),
)  # fmt: skip
"""Heads per layer, and the profile of the groups."""
POWER_HEADS = (8, 32)


@dataclass(frozen=True)
class Number:
    """A number of the page; ``worlds``: the number of worlds it is a share of; 0: it follows from a formula."""

    value: float
    page: str
    worlds: int = 0


def percent(share: float, worlds: int = 0, digits: int = 1) -> Number:
    """A share, as the page writes it: to a percent where it is simulated, else with this many ``digits``."""
    return Number(share, f"{100 * share:.{0 if worlds else digits}f} %", worlds)


def plain(value: float, digits: int) -> Number:
    """A number with this many decimals, without the zero before the point."""
    text = f"{value:.{digits}f}"
    return Number(value, text.replace("0.", ".", 1) if abs(value) < 1 and digits else text)


def short(value: float) -> Number:
    """A number with up to two decimals: none where it is whole."""
    return Number(value, f"{value + 0:.2g}".replace("0.", "."))


# ----------------------------------------------------------------------------------------------------------------------
# z and p when nothing is a circuit
# ----------------------------------------------------------------------------------------------------------------------


def z_above(threshold: float, n: int, ddof: int) -> float:
    """P(z > threshold) for a standard normal candidate and n standard normal controls: z sqrt(n / (n + 1)) ~ t with n -
    1."""
    with_one = threshold * math.sqrt((n - 1) / (n - ddof))  # the same event for a deviation that divides by n - 1
    return float(t.sf(with_one * math.sqrt(n / (n + 1)), n - 1))


def best_z_above(threshold: float, n: int, ddof: int) -> float:
    """The same for the best of several that share their controls: independent, given the controls' mean and deviation.

    The mean is normal, n - 1 times the variance is chi-squared, and both are independent: a grid of their quantiles.
    """
    quantiles = (np.arange(600) + 0.5) / 600
    mean = norm.ppf(quantiles)[:, None] / math.sqrt(n)
    deviation = np.sqrt(chi2.ppf(quantiles, n - 1) / (n - ddof))
    return float(1 - (norm.cdf(mean + threshold * deviation) ** TRIED).mean())


def p_within(alpha: float, n: int) -> float:
    """P(p <= alpha) of one candidate: p is uniform over 1/(n+1) .. 1."""
    return math.floor(alpha * (n + 1) + 1e-9) / (n + 1)


def best_p_within(alpha: float, n: int) -> float:
    """The same for the best of several that share their controls, p uncorrected: one of them is among the worst few."""
    few = math.floor(alpha * (n + 1) + 1e-9)
    return 1 - math.comb(n, few) / math.comb(n + TRIED, few)


def controls_of_a_random_group(n: int, futility: int) -> float:
    """How many controls are counted on average.

    Of the first m controls, k do as much damage; k is uniform over 0 .. m. If k is below futility, another is counted.
    """
    first = first_round(n, futility)
    return first + sum(futility / (m + 1) for m in range(first, n))


# ----------------------------------------------------------------------------------------------------------------------
# The statistic of small planted groups
# ----------------------------------------------------------------------------------------------------------------------


def damage_of(chain: Group = (), backup: Group = (), parts: Group = ()) -> Damage:
    """A group that does damage 1 if it breaks the chain or all of a backup, or an equal share for each of its parts."""

    def damage(group: Group) -> np.ndarray:
        broken = not set(group).isdisjoint(chain) or (bool(backup) and set(backup) <= set(group))
        return np.array([float(broken) or len(set(parts) & set(group)) / max(1, len(parts))])

    return damage


PLANTED: dict[str, tuple[Group, Damage]] = {
    "a chain of 3: any missing link breaks it": ((0, 1, 2), damage_of(chain=(0, 1, 2))),
    "3 equal parts that add up": ((0, 1, 2), damage_of(parts=(0, 1, 2))),
    "a pair that back each other up": ((0, 1), damage_of(backup=(0, 1))),
    "3 that back each other up": ((0, 1, 2), damage_of(backup=(0, 1, 2))),
    "one strong unit and 2 passengers": ((0, 1, 2), damage_of(chain=(0,))),
}


def share_of(group: Group, damage: Damage) -> float:
    """R: the statistic T of a group as a share of its damage."""
    units = UnitSpace.heads([len(group)])
    return float(Exact((), 0, {}, units, 0, statistic_of="share").statistic(group, damage)[0])


def interaction_of(group: Group, damage: Damage) -> float:
    """Interaction index from the damage of the whole and of each unit alone."""
    index = interaction(damage(group).repeat(2), np.stack([damage((unit,)).repeat(2) for unit in group]), seed=0)
    assert index is not None
    return index.value


def contribution_of_a_backup(size: int) -> float:
    """c of a unit that only one other unit backs up, in a group of which all other units are links of a chain."""
    group = tuple(range(size))
    damage = damage_of(chain=group[2:], backup=group[:2])
    return float(Parts.of(group, UnitSpace.heads([size]), 0).contributions(damage)[0, 0])


def rarely_used(own_examples: bool) -> float:
    """p of two units in a row that are used on one example in a hundred, among 99 groups of one unit of each of two.

    ``own_examples``: every group is judged on the examples on which one of its units is used; else on all examples.
    """
    used = np.eye(100, dtype=bool)  # [mechanisms, examples]; unit u belongs to mechanism u // 2
    comparison = Exact((), 0, {}, UnitSpace.heads([200]), 0)

    def statistic(judged: Group) -> float:
        examples = used[[unit // 2 for unit in judged]].any(axis=0) if own_examples else np.ones(100, dtype=bool)
        return float(comparison.statistic(judged, lambda group: _mean(group, examples))[0])

    def _mean(group: Group, examples: np.ndarray) -> np.ndarray:
        broken = used[[unit // 2 for unit in group]].any(axis=0)
        return np.array([broken[examples].mean()])

    others = np.array([statistic((2 * m, 2 * (m % 99 + 1) + 1)) for m in range(1, 100)])
    p = comparison.p(statistic((0, 1)), others)
    assert p is not None
    return p


def whole_model_passes(worlds: int) -> float:
    """How often three random units of the first of 16 layers have p <= .05 among groups of three from all layers.

    Damage falls by a factor of e every four layers.
    """
    rng, units = np.random.default_rng(0), UnitSpace.heads([32] * 16)
    falling = np.exp(-np.arange(16) / 4).repeat(32)
    comparison = Exact((), 0, {}, units, 0)
    passed = 0
    for _ in range(worlds):
        effects = falling * (1 + rng.standard_normal(len(units)))
        groups = np.array([rng.permutation(32)[:3], *(rng.permutation(len(units))[:3] for _ in range(199))])
        own, *others = comparison.statistic((0, 1, 2), lambda part: effects[groups[:, list(part)]].sum(axis=1))  # noqa: B023
        p = comparison.p(own, np.array(others))
        passed += p is not None and p <= ALPHA
    return passed / worlds


def overlap_by_chance(size: int, units: int) -> float:
    """Expected Jaccard overlap of two random groups."""
    both = np.arange(size + 1)
    return float(hypergeom(units, size, size).pmf(both) @ (both / (2 * size - both)))


def numbers(worlds: int) -> dict[str, Number]:
    """All numbers, from ``worlds`` simulated worlds, or a tenth as many where each world has many groups."""
    few = worlds // 10
    return {
        "floor of p, 199 groups": plain(1 / 200, 3),
        "floor of p, 19 groups": plain(1 / 20, 2),
        "floor of p, 5 groups": plain(1 / 6, 2),
        "equivalence": plain(EQUIVALENT, 1),
        "dispensable": percent(DISPENSABLE, digits=0),
        "z > 2, 5 groups, ddof 0": percent(z_above(2, 5, 0)),
        "z > 2, 5 groups, ddof 1": percent(z_above(2, 5, 1)),
        "z > 2 of a normal": percent(float(norm.sf(2))),
        "z > 2, 5 groups, ddof 0, best of 8": percent(best_z_above(2, 5, 0)),
        "z > 2, 5 groups, ddof 1, best of 8": percent(best_z_above(2, 5, 1)),
        "p <= .05, 199 groups": percent(p_within(ALPHA, 199)),
        "p <= .05, 199 groups, best of 8": percent(best_p_within(ALPHA, 199)),
        "groups for a random candidate, of 199": plain(controls_of_a_random_group(199, 10), 1),
        "groups for a random candidate, of 1999": plain(controls_of_a_random_group(1999, 10), 1),
        **{f"R, {name}": short(share_of(*planted)) for name, planted in PLANTED.items()},
        **{f"interaction, {name}": short(interaction_of(*planted)) for name, planted in PLANTED.items()},
        "contribution of a backup, 8 units": plain(contribution_of_a_backup(8), 0),
        "contribution of a backup, 9 units": plain(contribution_of_a_backup(9), 0),
        "rarely used, p over all examples": plain(rarely_used(own_examples=False), 2),
        "rarely used, p on its own examples": plain(rarely_used(own_examples=True), 2),
        "first layer, groups of the whole model": percent(whole_model_passes(few), few),
        "Jaccard by chance, 5 of 32 units": plain(overlap_by_chance(5, 32), 2),
        **_simulated(few),
        **_trained(),
    }


def _simulated(worlds: int) -> dict[str, Number]:
    """Level, power, several candidates and coverage in synthetic worlds: the functions of `harness calibrate`."""
    stages = Cell.of(resolve(["subject=tiny"], registry()), registry()).stages
    levels = [s for heads, profile in LEVELS for s in level(worlds, stages, [heads], [profile])]
    found = {f"level, {s.heads} heads, {s.profile}, {s.case}, {s.method}": s for s in levels if s.case in BACKGROUNDS}
    found |= {f"power, {s.heads} heads, {s.case}, {s.method}": s for s in power(worlds, stages, POWER_HEADS)}
    found |= {f"{s.case}, {s.method}": s for s in several_candidates(worlds, stages) if s.case.startswith("normal: ")}
    found |= {f"{s.case}, {s.method}": s for s in coverage(worlds) if "32 " in s.case or "20 groups" in s.case}
    return {name: percent(share.share, worlds) for name, share in found.items()}


def _trained() -> dict[str, Number]:
    """The level on the embedded model, as the stored calibration has it."""
    stored = [Share(**share) for share in json.loads(CALIBRATION.read_text(encoding="utf-8"))["shares"]]
    here = [share for share in stored if share.question == "trained"]
    largest = [share for share in here if share.profile.startswith("2+2+2")]
    exact = [share for share in here if share.method == "exact"]
    groups = sum(share.n for share in exact)
    return {
        **{f"tiny, 2+2+2, {share.method}": percent(share.share, digits=0) for share in largest},
        "tiny, all profiles, exact": percent(sum(share.share * share.n for share in exact) / groups),
    }


COLOURS = {"exact": "#2a6f97", "disjoint": "#b4451f"}


def figure(path: Path, found: dict[str, Number]) -> None:
    """Left: how often random groups have p <= .05. Right: how often circuits have, at 8 heads per layer."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    fig, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    rows = [(heads, named(profile), world) for world in BACKGROUNDS for heads, profile in LEVELS]
    for test, colour in COLOURS.items():
        names = [f"level, {heads} heads, {profile}, {world}, {test}" for heads, profile, world in rows]
        left.plot(
            [100 * found[name].value for name in names],
            [list(BACKGROUNDS).index(world) + (0.12 if test == "disjoint" else -0.12) for *_, world in rows],
            "o", color=colour, alpha=0.7, ms=5, label=f"{test} test",
        )  # fmt: skip
    left.axvline(5, color="#8795a1", lw=0.8, ls=":")
    left.set_yticks(range(len(BACKGROUNDS)), BACKGROUNDS)
    left.invert_yaxis()
    left.set(xlabel="random groups with p <= .05 (%); one point per profile", title="level", xlim=(0, None))
    left.legend(frameon=False, fontsize=9, loc="upper right")
    cases = [name.removeprefix("power, 8 heads, ").removesuffix(", exact") for name in found if "power, 8" in name]
    cases = [case for case in cases if not case.endswith(", disjoint")]
    for i, (test, colour) in enumerate(COLOURS.items()):
        shares = [100 * found[f"power, 8 heads, {case}, {test}"].value for case in cases]
        right.barh([y + 0.4 * i - 0.2 for y in range(len(cases))], shares, height=0.38, color=colour)
    right.set_yticks(range(len(cases)), cases)
    right.invert_yaxis()
    right.set(xlabel="share with p <= .05 (%)", title="power, 8 heads per layer", xlim=(0, 100))
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    fig.savefig(path, dpi=130, metadata={"Software": None})


if __name__ == "__main__":
    found = numbers(worlds=4000)
    text = json.dumps({name: asdict(number) for name, number in found.items()}, indent=1)
    (DOCS / "statistics.json").write_text(text + "\n", encoding="utf-8")
    figure(DOCS / "statistics.png", found)
    for name, number in found.items():
        print(f"{number.page:>8}  {name}")
