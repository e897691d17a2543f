"""What the same pipeline chooses where there is nothing to choose: the null of a group tested where it was picked."""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.closure.case import Trial
from harness.closure.draw import Group
from harness.closure.verdict import asked_first
from harness.errors import HarnessError
from harness.proposal import Proposal
from harness.seeds import seed_for
from harness.stages import Tick


def null_groups(proposal: Proposal, n: int) -> list[list[Group]]:
    """The candidates of the same pipeline on ``n`` sets of permuted observations; none where it finds none."""
    found: list[list[Group]] = []
    for i in range(n):
        permuted = proposal.permuted(seed_for(proposal.seed, f"null proposal {i}"))
        try:
            found.append([candidate.members for candidate in permuted.candidates])
        except HarnessError:
            found.append([])
    return found


def null_damage(groups: Sequence[Sequence[Group]], trial: Trial, tick: Tick) -> list[float]:
    """Per permuted run, the change of the primary metric by its most damaging candidate."""
    conditions = list(dict.fromkeys([(), *(group for run in groups for group in run)]))
    names = [metric.name for metric in trial.metrics]
    m = names.index(asked_first(names)[0])
    values = trial.evaluate(trial.batch, conditions, tick)[m].mean(axis=1)
    change = dict(zip(conditions, (values - values[0]).tolist(), strict=True))
    damage = trial.metrics[m].damage
    # A run that proposes nothing damages nothing.
    return [damage * max((damage * change[group] for group in run), default=-math.inf) for run in groups]
