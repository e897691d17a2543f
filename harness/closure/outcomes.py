"""What ablations did: every metric on every example, by ablated group, each group evaluated once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from harness.closure.comparison import Comparison
from harness.closure.necessity import Damage
from harness.closure.trial import Trial
from harness.data.contracts import Tick
from harness.data.sampling import Group


@dataclass(frozen=True, eq=False)
class Outcomes:
    """The outcomes of a trial's ablations so far. ``values``: by group; ``()`` is the baseline."""

    trial: Trial
    tick: Tick
    values: dict[Group, Float[np.ndarray, "metrics examples"]] = field(default_factory=dict)
    means: dict[Group, Float[np.ndarray, " metrics"]] = field(default_factory=dict)
    statistics: dict[Group, Float[np.ndarray, " metrics"]] = field(default_factory=dict)

    def evaluate(self, groups: Iterable[Group]) -> None:
        """Ablate the groups that have not been ablated yet, and the baseline."""
        missing = [group for group in dict.fromkeys([(), *groups]) if group not in self.values]
        if missing:
            values = self.trial.values(self.trial.batch, missing, self.tick)
            self.values.update((group, values[:, i]) for i, group in enumerate(missing))

    def change(self, group: Group) -> Float[np.ndarray, "metrics examples"]:
        """The change of every metric on every example."""
        change: Float[np.ndarray, "metrics examples"] = self.values[group] - self.values[()]
        return change

    def mean_change(self, group: Group, judged: Group) -> Float[np.ndarray, " metrics"]:
        """The mean change by ablating a group, on the examples that ``judged`` is judged on."""
        if self.trial.scope == "all":
            if group not in self.means:
                self.means[group] = self.change(group).mean(axis=1)
            return self.means[group]
        return self.trial.mean_change(judged, self.change(group))

    def damage(self, judged: Group) -> Damage:
        """The damage of groups on the examples that ``judged`` is judged on: positive for the worse."""
        sign = np.array([metric.damage for metric in self.trial.metrics])
        return lambda group: sign * self.mean_change(group, judged)

    def statistic(self, group: Group, comparison: Comparison) -> Float[np.ndarray, " metrics"]:
        """The statistic of a group on its own examples: the same in all comparisons of a trial, computed once."""
        if group not in self.statistics:
            self.statistics[group] = comparison.statistic(group, self.damage(group))
        return self.statistics[group]

    def single_units(self) -> dict[int, Float[np.ndarray, " metrics"]]:
        """The mean change over all examples by each unit that was ablated alone."""
        return {group[0]: self.change(group).mean(axis=1) for group in self.values if len(group) == 1}
