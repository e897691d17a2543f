"""What the same pipeline chooses where there is nothing to choose: the null of a group tested where it was picked."""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.closure.trial import Trial
from harness.closure.verdict import decision_order
from harness.data.sampling import Group
from harness.data.stages import Tick


def null_damage(groups: Sequence[Sequence[Group]], trial: Trial, tick: Tick) -> list[float]:
    """Per permuted run, the change of the primary metric by its most damaging candidate."""
    conditions = list(dict.fromkeys([(), *(group for run in groups for group in run)]))
    names = [metric.name for metric in trial.metrics]
    m = names.index(decision_order(names)[0])
    values = trial.evaluate(trial.batch, conditions, tick)[m].mean(axis=1)
    change = dict(zip(conditions, (values - values[0]).tolist(), strict=True))
    damage = trial.metrics[m].damage
    # A run that proposes nothing damages nothing.
    return [damage * max((damage * change[group] for group in run), default=-math.inf) for run in groups]
