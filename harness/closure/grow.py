"""Growing: the units that a group lacks are added, one after the other."""

from __future__ import annotations

from dataclasses import dataclass

from harness.closure.cases import first_unsaturated
from harness.closure.intervals import mean_interval
from harness.closure.necessity import DISPENSABLE
from harness.closure.outcomes import Outcomes
from harness.data.sampling import Group
from harness.util.errors import HarnessError

SEARCHED = 64
"""How many units are tried at each step: those that do most damage alone."""
LEVEL = 0.95


@dataclass(frozen=True)
class Added:
    """A unit that was added to a group, its ``gain`` in units of the metric, and the interval of the gain."""

    unit: int
    gain: float
    interval: tuple[float, float]


def grown(group: Group, outcomes: Outcomes, most: int) -> tuple[Added, ...]:
    r"""The units that a group lacks, in the order in which they are added: up to ``most``.

    .. math:: g_u(S) = d(\bar S) - d(\bar S \setminus u)

    ``d`` is the damage of an ablation to the metric that decides first, and :math:`\bar S` are all units outside S. The
    gain is what u adds to what the group alone keeps, its sufficiency. (What u adds to the damage by the group is no
    gain: a missing link of a chain adds nothing, because a link that is in the group breaks the chain already, and any
    link of another chain adds much.)

    The unit with the largest gain is added, while the gain is more than 5 % of the damage by the grown group (the share
    up to which :func:`harness.closure.prune.needed_units` drops a unit), and its interval is above zero. The level is
    95 % for all gains of a step together (Bonferroni), since the unit is the best of them.

    Not found: a backup of units in the group, without which the group keeps as much; two missing links of a chain, of
    which each alone keeps nothing. A unit that any prediction needs is added like any other.

    Evaluates each unit alone, then at most ``SEARCHED`` groups per step. Errors: units that cannot all be ablated
    together.
    """
    trial = outcomes.trial
    everything = range(len(trial.units))
    if not trial.units.allows(tuple(everything)):
        raise HarnessError(
            "grow: not all units of this subject can be ablated together, so what a group alone keeps is not defined.",
            "Leave out grow=, or use a subject without such a limit.",
        )
    outcomes.evaluate([group, *((unit,) for unit in everything)])
    m = first_unsaturated(group, outcomes)
    if m is None:
        return ()
    strongest = sorted(everything, key=lambda unit: -outcomes.damage(group)((unit,))[m])
    found: list[Added] = []
    while len(found) < most:
        best = _best(group, [unit for unit in strongest if unit not in group][:SEARCHED], outcomes, m)
        if best is None:
            break
        found.append(best)
        group = _with(group, best.unit)
    return tuple(found)


def _best(group: Group, options: list[int], outcomes: Outcomes, m: int) -> Added | None:
    """The option with the largest gain, if that is large and certain enough."""
    trial = outcomes.trial
    rest = tuple(unit for unit in range(len(trial.units)) if unit not in group)
    without = {unit: tuple(other for other in rest if other != unit) for unit in options}
    outcomes.evaluate([rest, *without.values()])
    judged = {
        unit: trial.metrics[m].damage * trial.in_scope(group, outcomes.values[rest][m] - outcomes.values[fewer][m])
        for unit, fewer in without.items()
    }
    means = {unit: float(gains.mean()) for unit, gains in judged.items() if len(gains)}
    if not means:
        return None
    best = max(means, key=means.__getitem__)
    larger = _with(group, best)
    outcomes.evaluate([larger])
    level = 1 - (1 - LEVEL) / len(options)
    interval = mean_interval(judged[best], trial.seed, trial.clusters(group), level)
    least = DISPENSABLE * float(outcomes.damage(group)(larger)[m])
    if interval is None or interval[0] <= 0 or means[best] <= least:
        return None
    return Added(best, means[best], interval)


def _with(group: Group, unit: int) -> Group:
    return tuple(sorted((*group, unit)))
