"""Every number on docs/statistics.md, and its figure: computed with the harness's own functions (`make figures`).

No world here has a circuit in it, so every pass is a false pass.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from scipy.stats import chi2, hypergeom, norm, t

from harness.closure.anatomy import active, interaction, on_input
from harness.closure.statistics import bootstrap_interval, inflated, max_t, p_value, z_score
from harness.closure.stopping import first_round
from harness.data.sampling import from_pools, inflation, site_bands
from harness.data.units import UnitSpace
from harness.util.seeds import rng_for

DOCS = Path(__file__).resolve().parents[1]
ALPHA = 0.05
TRIED = 8
"""Candidates of a cell, of which the best one counts."""
INK, ACCENT, MUTED = "#1f2933", "#b4451f", "#8795a1"


@dataclass(frozen=True)
class Number:
    """A number of the page; ``worlds``: the number of worlds it is a share of; 0: it follows from a formula."""

    value: float
    page: str
    worlds: int = 0


def percent(share: float, worlds: int = 0) -> Number:
    """A share, as the page writes it: to a tenth where it is computed, to a percent where it is simulated."""
    return Number(share, f"{100 * share:.{0 if worlds else 1}f} %", worlds)


def plain(value: float, digits: int) -> Number:
    """A number with this many decimals, without the zero before the point."""
    text = f"{value:.{digits}f}"
    return Number(value, text.replace("0.", ".", 1) if abs(value) < 1 and digits else text)


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


def best_max_t_within(alpha: float, n: int, worlds: int, shared: bool = False) -> float:
    """The same for the best of several with controls of their own, p corrected by max-T.

    ``shared``: all candidates have the same controls, each one place later, so that no column contains one twice.
    """
    draws = rng_for(n, "max-T").standard_normal((worlds, TRIED, 1 + n))
    if shared:
        draws[:, :, 1:] = np.stack([np.roll(draws[:, 0, 1:], -place, axis=1) for place in range(TRIED)], axis=1)
    return float(np.mean([min(max_t(world[:, 0], world[:, 1:])) <= alpha for world in draws]))


def controls_of_a_random_group(n: int, futility: int) -> float:
    """How many controls are counted on average.

    Of the first m controls, k do as much damage; k is uniform over 0 .. m. If k is below futility, another is counted.
    """
    first = first_round(n, futility)
    return first + sum(futility / (m + 1) for m in range(first, n))


def shared_controls(layers: int, heads: int, size: int, pairs: int) -> float:
    """Share of a random candidate's controls that another candidate with as many units in each layer also has."""
    units, rng = UnitSpace.heads([heads] * layers), rng_for(layers, f"pairs of {size}")
    shares = []
    for _ in range(pairs):
        first = rng.permutation(len(units))[:size]
        places, counts = np.unique(units.site_of[first], return_counts=True)
        second = [
            rng.permutation(units.at_sites([units.sites[place]]))[:n]
            for place, n in zip(places.tolist(), counts.tolist(), strict=True)
        ]
        drawn = []
        for candidate in (tuple(first.tolist()), tuple(np.concatenate(second).tolist())):
            bands, _ = site_bands(candidate, units, 99)
            drawn.append(set(from_pools(candidate, map(units.at_sites, bands), units, 99, seed=0).groups))
        shares.append(len(drawn[0] & drawn[1]) / len(drawn[0]))
    return float(np.mean(shares))


# ----------------------------------------------------------------------------------------------------------------------
# The pool that controls are drawn from
# ----------------------------------------------------------------------------------------------------------------------


def random_group_passes(
    layers: int, per_layer: int, size: int, matched: bool, worlds: int, spread: bool = False
) -> float:
    """How often a random group of the first layer has p <= 5 % against 99 groups without any of its units.

    ``spread``: the controls are spread about their mean like random groups, as for every p of the harness.

    Damage of a group is the sum over its units; that of a unit is normal, and its mean and deviation fall by a factor
    of e in four layers.
    """
    rng = rng_for(layers, f"groups of {size} of {per_layer}")
    falling = np.exp(-np.arange(layers) / 4)[:, None]
    passed = 0
    for _ in range(worlds):
        damage = falling * (1 + rng.standard_normal((layers, per_layer)))
        first = rng.permutation(damage[0])
        rest = first[size:] if matched else np.concatenate([first[size:], damage[1:].ravel()])
        picks = rng.random((99, len(rest))).argpartition(size, axis=1)[:, :size]
        controls = rest[picks].sum(axis=1).tolist()
        factor = inflation([(len(rest), size)]) if spread else 1.0
        p = p_value(float(first[:size].sum()), inflated(controls, factor), damage=1)
        passed += p is not None and p <= ALPHA
    return passed / worlds


# ----------------------------------------------------------------------------------------------------------------------
# Inside a group
# ----------------------------------------------------------------------------------------------------------------------


def interaction_of(*damage: float) -> float:
    """Interaction index from the damage of the whole and of each part alone."""
    whole, *parts = (np.full(2, float(value)) for value in damage)
    index = interaction(whole, np.stack(parts), seed=0)
    assert index is not None
    return index.value


def rarely_used() -> tuple[float, float]:
    """p over all examples and on input, for two units in a row that are used on one example in a hundred.

    There are a hundred such mechanisms. A control is one unit of each of two mechanisms, and breaks both.
    """
    used = np.eye(100)
    controls = np.array([used[m] + used[m % 99 + 1] for m in range(1, 100)])
    everywhere = p_value(float(used[0].mean()), controls.mean(axis=1).tolist(), damage=1)
    used_only = on_input(used[0], controls, active(used[:, :1]), damage=1)
    assert everywhere is not None
    assert used_only.p is not None
    return everywhere, used_only.p


def covered(skewed: bool, worlds: int) -> float:
    """How often the interval over 64 examples contains the true mean."""
    rng = rng_for(int(skewed), "coverage")
    data = rng.exponential(size=(worlds, 64)) - 1 if skewed else rng.standard_normal((worlds, 64))
    intervals = [bootstrap_interval(deltas, seed) for seed, deltas in enumerate(data)]
    return float(np.mean([low <= 0 <= high for low, high in intervals if low is not None]))


def overlap_by_chance(size: int, units: int) -> float:
    """Expected Jaccard overlap of two random groups."""
    both = np.arange(size + 1)
    return float(hypergeom(units, size, size).pmf(both) @ (both / (2 * size - both)))


def numbers(worlds: int) -> dict[str, Number]:
    """All numbers, from ``worlds`` simulated worlds, or half as many where each world is resampled."""
    few = worlds // 2
    everywhere, there = rarely_used()
    return {
        "floor of p, 5 controls": plain(1 / 6, 2),
        "floor of p, 19 controls": plain(1 / 20, 2),
        "floor of p, 99 controls": plain(1 / 100, 2),
        "z > 2, 5 controls, ddof 0": percent(z_above(2, 5, 0)),
        "z > 2, 5 controls, ddof 1": percent(z_above(2, 5, 1)),
        "z > 2 of a normal": percent(float(norm.sf(2))),
        "z > 2, 5 controls, ddof 0, best of 8": percent(best_z_above(2, 5, 0)),
        "z > 2, 5 controls, ddof 1, best of 8": percent(best_z_above(2, 5, 1)),
        "p <= .05, 99 controls": percent(p_within(ALPHA, 99)),
        "p <= .05, 5 controls": percent(p_within(ALPHA, 5)),
        "p <= .05, 99 controls, best of 8": percent(best_p_within(ALPHA, 99)),
        "max-T p <= .05, 99 controls each, best of 8": percent(best_max_t_within(ALPHA, 99, worlds), worlds),
        "max-T p <= .05, 99 controls for all, best of 8": percent(best_max_t_within(ALPHA, 99, worlds, True), worlds),
        "controls of a random group, of 99": plain(controls_of_a_random_group(99, 10), 1),
        "controls of a random group, of 999": plain(controls_of_a_random_group(999, 10), 1),
        **{
            f"shared controls, {size} of {layers} x {heads} heads": percent(
                shared_controls(layers, heads, size, worlds // 10), worlds // 10
            )
            for layers, heads in ((4, 8), (30, 9))
            for size in (4, 5, 6, 7, 8)
        },
        "early group against the whole model": percent(random_group_passes(16, 32, 3, False, worlds), worlds),
        "early group against its layer": percent(random_group_passes(16, 32, 3, True, worlds), worlds),
        "5 of 16 units, controls from the 11 others": percent(random_group_passes(1, 16, 5, True, worlds), worlds),
        "5 of 256 units, controls from the 251 others": percent(random_group_passes(1, 256, 5, True, worlds), worlds),
        "5 of 16 units, controls spread": percent(random_group_passes(1, 16, 5, True, worlds, spread=True), worlds),
        "interaction, chain": plain(interaction_of(1, 1, 1, 1), 0),
        "interaction, independent": plain(interaction_of(3, 1, 1, 1), 0),
        "interaction, backup pair": plain(interaction_of(1, 0, 0), 0),
        "interaction, three that back each other up": plain(interaction_of(1, 0, 0, 0), 1),
        "rarely used, p over all examples": plain(everywhere, 2),
        "rarely used, p on input": plain(there, 2),
        "interval, normal changes": percent(covered(False, few), few),
        "interval, skewed changes": percent(covered(True, few), few),
        "Jaccard by chance, 5 of 32 units": plain(overlap_by_chance(5, 32), 2),
    }


# ----------------------------------------------------------------------------------------------------------------------
# The figure
# ----------------------------------------------------------------------------------------------------------------------


def figure(path: Path, worlds: int) -> None:
    """Left: z of null groups against five controls. Right: how often null groups pass, by number of controls."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    fig, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.6), layout="constrained")
    draws = rng_for(0, "figure").standard_normal((worlds, 6))
    z = [z_score(draw[0], draw[1:].tolist(), ddof=0) for draw in draws]
    grid = np.linspace(-6, 6, 481)
    stretch = math.sqrt(4 / 5) * math.sqrt(5 / 6)  # z with ddof 0 times this ~ t with 4 degrees of freedom
    left.hist(np.array(z, float), bins=np.linspace(-6, 6, 61), density=True, color="#d9e2ec", label="simulated")
    left.plot(grid, stretch * t.pdf(stretch * grid, 4), color=INK, label="t distribution")
    left.plot(grid, norm.pdf(grid), color=MUTED, ls="--", label="normal")
    tail = grid[grid >= 2]
    left.fill_between(tail, stretch * t.pdf(stretch * tail, 4), color=ACCENT)
    left.annotate(
        f"z > 2: {percent(z_above(2, 5, 0)).page}\n(normal: {percent(float(norm.sf(2))).page})",
        (2.5, 0.03), (2.7, 0.17), color=ACCENT, arrowprops={"arrowstyle": "-", "color": ACCENT},
    )  # fmt: skip
    left.set(
        xlabel="z of a group that is not a circuit", ylabel="density", title="five controls (ddof 0)", xlim=(-6, 6)
    )
    left.legend(frameon=False, fontsize=8, loc="upper left")

    counts = [5, 7, 9, 14, 19, 39, 59, 79, 99, 199, 399]
    right.plot(counts, [best_z_above(2, n, 0) for n in counts], "o-", ms=3, color=ACCENT)
    right.plot(counts, [z_above(2, n, 0) for n in counts], "o-", ms=3, color=INK)
    right.plot(counts, [p_within(ALPHA, n) for n in counts], "s-", ms=3, color="#2a6f97")
    right.axhline(ALPHA, color=MUTED, lw=0.8, ls=":")
    right.annotate("z > 2, best of 8 candidates", (22, 0.285), color=ACCENT, fontsize=9)
    right.annotate("z > 2", (5.2, 0.105), color=INK, fontsize=9)
    right.annotate("p ≤ .05 (with max-T: also the best of 8)", (24, 0.062), color="#2a6f97", fontsize=9)
    right.set(xscale="log", ylim=(0, 0.45), xlabel="controls", ylabel="share of null groups that pass")
    right.set_title("no group is a circuit")
    right.set_xticks([5, 9, 19, 39, 99, 399], labels=["5", "9", "19", "39", "99", "399"])
    right.minorticks_off()
    right.yaxis.set_major_formatter(lambda share, _: f"{100 * share:.0f} %")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    fig.savefig(path, dpi=130, metadata={"Software": None})


if __name__ == "__main__":
    found = numbers(worlds=4000)
    text = json.dumps({name: asdict(number) for name, number in found.items()}, indent=1)
    (DOCS / "statistics.json").write_text(text + "\n", encoding="utf-8")
    figure(DOCS / "statistics.png", worlds=20_000)
    for name, number in found.items():
        print(f"{number.page:>8}  {name}")
