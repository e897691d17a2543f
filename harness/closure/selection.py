"""The null distribution of a candidate that was chosen on its test examples: the best groups of permuted data."""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.closure.cases import saturated
from harness.closure.trial import Trial
from harness.data.contracts import Tick
from harness.data.sampling import Group


def null_damage(runs: Sequence[Sequence[Group]], trial: Trial, tick: Tick) -> list[float]:
    """For each permuted run, the change of the metric that decides first, by its most damaging group.

    ``runs``: the groups that each run proposed. A run without groups does no damage: its change is infinite, in the
    harmless direction.
    """
    conditions = list(dict.fromkeys([(), *(group for groups in runs for group in groups)]))
    values = trial.values(trial.batch, conditions, tick)
    deciding = (m for m, metric in enumerate(trial.metrics) if trial.decides(m) and not saturated(metric, values[m, 0]))
    m = next(deciding, 0)
    changes = {group: trial.mean_change(group, values[:, i] - values[:, 0]) for i, group in enumerate(conditions)}
    damage = trial.metrics[m].damage
    return [damage * max((damage * float(changes[group][m]) for group in groups), default=-math.inf) for groups in runs]
