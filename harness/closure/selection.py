"""The null distribution of a candidate that was chosen on its test examples: the best groups of permuted data."""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.closure.trial import Trial
from harness.data.contracts import Tick
from harness.data.sampling import Group


def null_damage(runs: Sequence[Sequence[Group]], trial: Trial, tick: Tick) -> list[float]:
    """For each permuted run, the change of the primary metric by its most damaging group.

    ``runs``: the groups that each run proposed. A run without groups does no damage: its change is infinite, in the
    harmless direction.
    """
    conditions = list(dict.fromkeys([(), *(group for groups in runs for group in groups)]))
    values = trial.values(trial.batch, conditions, tick)[0]
    change = {group: float(trial.mean_change(group, values[i] - values[0])) for i, group in enumerate(conditions)}
    damage = trial.metrics[0].damage
    return [damage * max((damage * change[group] for group in groups), default=-math.inf) for groups in runs]
