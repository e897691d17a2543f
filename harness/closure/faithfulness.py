"""Faithfulness curves: how much of the task is left when only the first units of a ranking are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from harness.closure.anatomy import left
from harness.closure.intervals import mean_interval
from harness.closure.statistics import RESAMPLES, portions
from harness.data.sampling import Group
from harness.data.units import UnitSpace
from harness.util.errors import HarnessError
from harness.util.seeds import rng_for

SHARES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Of the units: the sizes of MIB."""
RANKINGS = 20
"""How many random rankings stand beside."""
LEVEL = 0.95

Interval = tuple[float, float]
Values = Callable[[Sequence[Group]], Float[np.ndarray, "groups examples"]]
"""A metric on every example, with each of these groups ablated."""


@dataclass(frozen=True)
class Curve:
    r"""The faithfulness of the first units of one ranking, at each of ``shares`` of the units.

    .. math:: f(k) = \frac{m(C_k) - m(\varnothing)}{m(N) - m(\varnothing)}

    :math:`m(C_k)`: mean metric when every unit but the first k is ablated; k is the share of the units, rounded down.

    ``cpr``: area under f; ``cmd``: area under :math:`|1 - f|`; both by trapezoids over the shares, so that at best they
    are .999 and 0. Intervals: percentile bootstrap over examples, or over documents where the batch has some.
    """

    sizes: tuple[int, ...]
    faithfulness: tuple[float, ...]
    intervals: tuple[Interval, ...]
    cpr: float
    cpr_interval: Interval
    cmd: float
    cmd_interval: Interval


@dataclass(frozen=True)
class Faithfulness:
    """The curve of a ranking, beside those of ``random`` rankings on the same examples.

    ``whole``, ``none``: the mean metric with no unit and with every unit ablated. ``units``: in the ranking's order.
    ``rest``: completeness at every size (:func:`harness.closure.anatomy.completeness`), the faithfulness of all units
    but the first k; near 0 where the first k hold everything that the task needs.
    """

    metric: str
    whole: float
    none: float
    examples: int
    units: tuple[str, ...]
    curve: Curve
    rest: tuple[float, ...]
    random: tuple[Curve, ...]

    @property
    def p(self) -> float:
        """(1 + random rankings with at least this CPR) / (1 + random rankings)."""
        return (1 + sum(curve.cpr >= self.curve.cpr for curve in self.random)) / (1 + len(self.random))


def faithfulness(
    order: Group,
    units: UnitSpace,
    metric: str,
    values: Values,
    seed: int,
    clusters: Int[np.ndarray, " examples"] | None = None,
) -> Faithfulness:
    """The curves of an order of all units and of :data:`RANKINGS` random ones. ``clusters``: document of each example.

    Errors: units that cannot all be ablated together; :math:`m(N) - m(\\varnothing)` that is not off zero.
    """
    n, everything = len(units), tuple(range(len(units)))
    if not units.allows(everything):
        raise HarnessError(
            "curve: not all units of this subject can be ablated together, so the rest of a circuit cannot be.",
            "Use a subject without such a limit, or an intervention that replaces outputs.",
        )
    sizes = sizes_of(n)
    rankings = [order, *(tuple(rng_for(place, "random ranking").permutation(n).tolist()) for place in range(RANKINGS))]
    kept = [tuple(sorted(ranking[:size])) for ranking in rankings for size in sizes]
    rest = [tuple(unit for unit in everything if unit not in set(group)) for group in kept]
    groups = list(dict.fromkeys([(), everything, *rest, *kept[: len(sizes)]]))
    by_group = dict(zip(groups, values(groups), strict=True))
    whole, none = by_group[()], by_group[everything]
    _check_off_zero(whole, none, metric, seed, clusters)
    curves = [
        curve_of(np.stack([by_group[group] for group in part]), none, whole, sizes, seed, clusters)
        for part in (rest[i : i + len(sizes)] for i in range(0, len(rest), len(sizes)))
    ]
    return Faithfulness(
        metric=metric,
        whole=float(whole.mean()),
        none=float(none.mean()),
        examples=len(whole),
        units=tuple(units.names(order)),
        curve=curves[0],
        rest=tuple(left(none - whole, by_group[group] - whole) for group in kept[: len(sizes)]),
        random=tuple(curves[1:]),
    )


def sizes_of(n: int) -> tuple[int, ...]:
    """How many of n units each share is, rounded down."""
    return tuple(int(share * n + 1e-9) for share in SHARES)  # .29 * 100 is 28.999999999999996


def curve_of(
    kept: Float[np.ndarray, "sizes examples"],
    none: Float[np.ndarray, " examples"],
    whole: Float[np.ndarray, " examples"],
    sizes: tuple[int, ...],
    seed: int,
    clusters: Int[np.ndarray, " examples"] | None = None,
) -> Curve:
    """The curve of these values of the metric, one row for each of :data:`SHARES`."""
    gained = np.concatenate([kept - none, (whole - none)[None]])
    sums = gained if clusters is None else np.stack([np.bincount(clusters, weights=row) for row in gained])
    found, (cpr, cmd) = _figures(sums.sum(axis=1)[None])
    rng, drawn = rng_for(seed, "bootstrap of a curve"), []
    many = sums.shape[1]
    for resamples in portions(RESAMPLES, many):
        counts = rng.multinomial(many, np.full(many, 1 / many), size=resamples).astype(float)
        curves, areas = _figures(counts @ sums.T)
        drawn.append(np.concatenate([curves, areas.T], axis=1))
    low, high = np.quantile(np.concatenate(drawn), [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    *of_sizes, of_cpr, of_cmd = zip(low.tolist(), high.tolist(), strict=True)
    return Curve(sizes, tuple(found[0].tolist()), tuple(of_sizes), float(cpr[0]), of_cpr, float(cmd[0]), of_cmd)


def _figures(
    sums: Float[np.ndarray, "resamples sizes_and_whole"],
) -> tuple[Float[np.ndarray, "resamples sizes"], Float[np.ndarray, "2 resamples"]]:
    """f at every size, then CPR and CMD."""
    curves = sums[:, :-1] / sums[:, -1:]
    return curves, np.stack([np.trapezoid(each, SHARES, axis=1) for each in (curves, np.abs(1 - curves))])


def _check_off_zero(
    whole: Float[np.ndarray, " examples"],
    none: Float[np.ndarray, " examples"],
    metric: str,
    seed: int,
    clusters: Int[np.ndarray, " examples"] | None,
) -> None:
    interval = mean_interval(whole - none, seed, clusters)
    if interval is None or interval[0] <= 0 <= interval[1]:
        said = "one example has no interval" if interval is None else f"95 % [{interval[0]:.3g}, {interval[1]:.3g}]"
        raise HarnessError(
            f"curve: {metric} is {whole.mean():.3g} without ablation and {none.mean():.3g} with every unit ablated; "
            f"the difference is not off zero ({said}), so that faithfulness, a share of it, is not defined.",
            "Use a task that the model does, another intervention (intervention=mean), or more examples (batch.n).",
        )
