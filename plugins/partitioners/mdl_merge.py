"""Groups with the shortest description of which units are active."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Ge, Gt, Le
from jaxtyping import Float, Int

from harness import HarnessError, Partition, Partitioner, Spins, hookimpl, rng_for
from harness.data.grouping import require_pairs


@dataclass(frozen=True)
class MdlMerge(Partitioner):
    r"""Greedy merging of units that are active together; the shortest description is kept.

    .. math:: \text{MDL} = \sum_{g} s_g (\log_2 c + \alpha r_g)

    There are c groups; :math:`s_g` is the share of observations in which any unit of g is active (spin +1) and
    :math:`r_g` the number of units in g. Every active group costs :math:`\log_2 c` bits for its name and :math:`\alpha`
    bits per unit, active or not. Few groups have short names; large groups waste bits if only some of their units are
    active. The method is made for sparse activity: if units are active half of the time (binarizer=median), a large
    group nearly always is, and merging more units into it costs little. ``binarizer=quantile binarizer.q=0.9`` gives
    sparse spins.

    It starts with one group per unit and ends with one group of all. Each step merges the two groups with the least
    cost

    .. math:: (s_\Sigma - s_i - s_j) \log_2 \tfrac{c-1}{c} + s_{i \cup j} \log_2 (c-1) - (s_i + s_j) \log_2 c
              + \alpha [s_{i \cup j} (r_i + r_j) - s_i r_i - s_j r_j]

    which is exactly the difference of MDL. With a ``threshold``, it draws a pair among those whose cost exceeds the
    least by at most this share of the range of costs. The step with the least MDL is kept; if several are equal, the
    one with the most groups.

    Input: spins [n_observations, n_units]. Output: one partition; ``k`` is the number of groups found. The order of
    layers and indices breaks ties between pairs. Units that never change are in no group and are named in
    ``diagnostics.constant``. ``diagnostics.mdl`` is the description length in bits per observation,
    ``diagnostics.mdl_singletons`` that of one group per unit.

    Errors: fewer than two units that change; too many for a matrix of all pairs. (``alpha`` must be positive: with 0,
    one group of all units would always be shortest.)
    Source: clustering of the SPD authors (goodfire-ai/spd, spd/clustering; alpha 1, threshold 0.001 to 0.05).
    """

    name: ClassVar[str] = "mdl_merge"
    known_limits: ClassVar[Mapping[str, str]] = {
        "finds groups where there are some": "made for sparse activity; these units are active half of the time"
    }
    alpha: Annotated[float, Gt(0)] = field(default=1.0, metadata={"help": "bits per unit of an active group"})
    threshold: Annotated[float, Ge(0), Le(1)] = field(
        default=0.0, metadata={"help": "share of the range of costs from which a pair is drawn; 0: the best pair"}
    )
    seed: int = field(default=0, metadata={"help": "seed of the draw; nothing is drawn without a threshold"})

    def __call__(self, spins: Spins) -> list[Partition]:
        units = spins.units
        constant = set(spins.constant)
        varying = np.array([unit for unit in units.canonical if unit not in constant], dtype=int)
        if len(varying) < 2:
            raise HarnessError(
                f"partitioner mdl_merge: {len(varying)} of {len(units)} units ever change; at least two must.",
                "Use another binarizer, or more examples (batch.n).",
            )
        require_pairs("partitioner mdl_merge", len(varying))
        steps = self._merge((spins.values[:, varying].T > 0).astype(np.float64))
        best = int(np.argmin(np.round([mdl for mdl, _ in steps], 12)))  # so that rounding does not break ties
        mdl, groups = steps[best]
        labels = np.full(len(units), -1, dtype=np.int64)
        labels[varying] = groups
        diagnostics = {"constant": units.names(spins.constant), "mdl": mdl, "mdl_singletons": steps[0][0]}
        return [Partition(int(groups.max()) + 1, labels, diagnostics=diagnostics)]

    def _merge(self, active: Float[np.ndarray, "units observations"]) -> list[tuple[float, Int[np.ndarray, " units"]]]:
        """Description length and group of every unit, after each step."""
        rng = rng_for(self.seed, "mdl_merge")
        observations = active.shape[1]
        together = active @ active.T  # counts are exact in any order of summation
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
        both = rate[i] + rate[j]
        union = both - together[i, j]
        names = (rate.sum() - both) * np.log2((c - 1) / c) + union * np.log2(c - 1) - both * np.log2(c)
        members = union * (sizes[i] + sizes[j]) - (rate * sizes)[i] - (rate * sizes)[j]
        costs: Float[np.ndarray, " pairs"] = names + self.alpha * members
        return costs


@hookimpl
def harness_partitioners() -> list[type[MdlMerge]]:
    return [MdlMerge]
