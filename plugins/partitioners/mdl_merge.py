"""Groups that describe which units are active in the fewest bits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from jaxtyping import Float, Int

from harness import HarnessError, Partition, Spins, hookimpl, rng_for
from harness.data.grouping import require_pairs


@dataclass(frozen=True)
class MdlMerge:
    r"""Greedy merging of units that are active together, down to the shortest description.

    .. math:: \text{MDL} = \sum_{g} s_g (\log_2 c + \alpha r_g)

    c groups; :math:`s_g` share of observations in which any unit of g is active (spin +1); :math:`r_g` units in g.
    Every active group is named in :math:`\log_2 c` bits and costs :math:`\alpha` bits per unit, active or not: few
    groups are cheap to name, large ones are wasteful where only some of their units are active. Made for sparse
    activity: of units that are active half of the time (binarizer=median), a large group nearly always is, and to merge
    more into it costs little; ``binarizer=quantile binarizer.q=0.9`` makes sparse spins.

    From one group per unit down to one group of all, the two groups whose merging costs least are merged, at a cost of

    .. math:: (s_\Sigma - s_i - s_j) \log_2 \tfrac{c-1}{c} + s_{i \cup j} \log_2 (c-1) - (s_i + s_j) \log_2 c
              + \alpha [s_{i \cup j} (r_i + r_j) - s_i r_i - s_j r_j]

    (exactly the difference of MDL); with a ``threshold``, a pair drawn among those whose cost is within this share of
    the range of costs above the least. The step with the least MDL is the answer, of equals the one with most groups.

    Input: spins [n_observations, n_units]. Output: one partition, ``k`` the number of groups found.
    Worked out in the order of layers and indices, which also decides between pairs of equal cost. Units that never
    change are in no group and are named in ``diagnostics.constant``; ``diagnostics.mdl`` is the description length in
    bits per observation, ``diagnostics.mdl_singletons`` that of one group per unit.

    Errors: fewer than two units that change, or so many that all pairs are out of reach; ``alpha`` not positive (one
    group of all would always be shortest); ``threshold`` outside 0 .. 1.
    Source: clustering of the SPD authors (goodfire-ai/spd, spd/clustering; alpha 1, threshold 0.001 to 0.05).
    """

    name: ClassVar[str] = "mdl_merge"
    known_limits: ClassVar[Mapping[str, str]] = {
        "finds groups where there are some": "made for sparse activity; these units are active half of the time"
    }
    alpha: float = field(default=1.0, metadata={"help": "bits per unit of an active group"})
    threshold: float = field(default=0.0, metadata={"help": "share of the range of costs to draw pairs from; 0: best"})
    seed: int = field(default=0, metadata={"help": "of the draw; without a threshold nothing is drawn"})

    def __post_init__(self) -> None:
        if not self.alpha > 0:
            raise HarnessError(f"partitioner.alpha={self.alpha}: it must be positive, or one group is always shortest.")
        if not 0 <= self.threshold <= 1:
            raise HarnessError(f"partitioner.threshold={self.threshold}: a share of the range of costs, 0 to 1.")

    def __call__(self, spins: Spins) -> list[Partition]:
        units = spins.units
        constant = set(spins.constant)
        varying = np.array([unit for unit in units.canonical if unit not in constant], dtype=int)
        if len(varying) < 2:
            raise HarnessError(
                f"partitioner mdl_merge: {len(varying)} of {len(units)} units ever change, two are needed.",
                "Units that never change carry no information: see what the binarizer says, or use more examples.",
            )
        require_pairs("partitioner mdl_merge", len(varying))
        steps = self._merge((spins.values[:, varying].T > 0).astype(np.float64))
        best = int(np.argmin(np.round([mdl for mdl, _ in steps], 12)))  # or rounding would choose between equals
        mdl, groups = steps[best]
        labels = np.full(len(units), -1, dtype=np.int64)
        labels[varying] = groups
        told = {"constant": units.names(spins.constant), "mdl": mdl, "mdl_singletons": steps[0][0]}
        return [Partition(int(groups.max()) + 1, labels, diagnostics=told)]

    def _merge(self, active: Float[np.ndarray, "units observations"]) -> list[tuple[float, Int[np.ndarray, " units"]]]:
        """Description length and group of every unit, after each step."""
        rng = rng_for(self.seed, "mdl_merge")
        observations = active.shape[1]
        together = active @ active.T  # counts: exact, whatever the order of summation
        sizes = np.ones(len(active))
        groups = np.arange(len(active))
        steps = [(self._length(np.diagonal(together) / observations, sizes), groups.copy())]
        while len(sizes) > 1:
            first, second = np.triu_indices(len(sizes), 1)
            cost = self._costs(together / observations, sizes, first, second)
            near = np.flatnonzero(cost <= cost.min() + self.threshold * np.ptp(cost))
            pick = int(rng.choice(near)) if self.threshold else int(near[0])
            i, j = first[pick], second[pick]
            groups[groups == j] = i
            groups[groups > j] -= 1
            sizes[i] += sizes[j]
            active[i] = np.maximum(active[i], active[j])
            active, sizes = np.delete(active, j, axis=0), np.delete(sizes, j)
            together = np.delete(np.delete(together, j, axis=0), j, axis=1)
            together[i] = together[:, i] = active @ active[i]
            steps.append((self._length(np.diagonal(together) / observations, sizes), groups.copy()))
        return steps

    def _length(self, rate: Float[np.ndarray, " groups"], sizes: Float[np.ndarray, " groups"]) -> float:
        return float((rate * (np.log2(len(sizes)) + self.alpha * sizes)).sum())

    def _costs(
        self,
        together: Float[np.ndarray, "groups groups"],
        sizes: Float[np.ndarray, " groups"],
        i: Int[np.ndarray, " pairs"],
        j: Int[np.ndarray, " pairs"],
    ) -> Float[np.ndarray, " pairs"]:
        c = len(sizes)
        rate = np.diagonal(together)
        apart = rate[i] + rate[j]
        union = apart - together[i, j]
        named = (rate.sum() - apart) * np.log2((c - 1) / c) + union * np.log2(c - 1) - apart * np.log2(c)
        held = union * (sizes[i] + sizes[j]) - (rate * sizes)[i] - (rate * sizes)[j]
        costs: Float[np.ndarray, " pairs"] = named + self.alpha * held
        return costs


@hookimpl
def harness_partitioners() -> list[type[MdlMerge]]:
    return [MdlMerge]
