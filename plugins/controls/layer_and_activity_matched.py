"""Controls with the candidate's size, layers and strength."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from harness import ControlSets, HarnessError, UnitSpace, Windows, from_windows, hookimpl, layer_bands, others


@dataclass(frozen=True)
class LayerAndActivityMatched:
    r"""Random groups of units that are in the same layers as the candidate's, and write about as strongly.

    A unit that writes more breaks more, whatever it computes: clustering finds strong units, and layer-matched controls
    are weaker ones. With :math:`r` the rank of strength among the units of a layer, ties sharing their mean rank, and
    :math:`d_k(u)` the distance in rank from :math:`u` to the :math:`k`-th nearest unit outside the candidate
    :math:`C`, a control is a set of distinct units, one for each of the candidate's, drawn uniformly from all such:

    .. math:: \{v_u\}_{u \in C}, \qquad v_u \notin C,\ \ \text{layer}(v_u) = \text{layer}(u),\ \
              |r(v_u) - r(u)| \le d_k(u)

    ``k`` is the least number from ``neighbours`` on with which there are ``n`` such sets; where there never are, whole
    layers stand in, and all there are come back. So layers of few heads are matched loosely, and the strongest of them
    has only weaker ones beside it. Where a layer has too few units left, it is ranked and matched together with its
    neighbours, as in ``layer_matched``, and what was missing is reported per layer in ``shortfall``.

    Input: candidate (positions), units, strength [units]. Output: up to ``n`` distinct groups of the candidate's size;
    none where the rest of the model is smaller than the candidate.

    Errors: no control or no neighbour asked for; a strength that is NaN or infinite.
    Source: this project's own.
    """

    name: ClassVar[str] = "layer_and_activity_matched"
    n: int = field(default=99, metadata={"help": "control groups; p cannot go below 1 / (n + 1)"})
    neighbours: int = field(default=3, metadata={"help": "units of like strength that may stand in for one, at least"})
    seed: int = field(default=0, metadata={"help": "of the draw"})

    def __post_init__(self) -> None:
        if self.n < 1:
            raise HarnessError(f"controls.n={self.n}: at least one control is needed.")
        if self.neighbours < 1:
            raise HarnessError(
                f"controls.neighbours={self.neighbours}: a unit needs one other to stand in for it.",
                "The default is 3.",
            )

    def __call__(
        self, candidate: tuple[int, ...], units: UnitSpace, strength: Float[np.ndarray, " units"]
    ) -> ControlSets:
        if not np.isfinite(strength).all():
            broken = ", ".join(units.names(np.flatnonzero(~np.isfinite(strength))[:5]))
            raise HarnessError(
                f"controls=layer_and_activity_matched: the strength of {broken} is NaN or infinite.",
                "Half precision overflows on real checkpoints: try subject.dtype=float32.",
            )
        bands, shortfall = layer_bands(candidate, units, self.n)
        if len(candidate) > len(others(candidate, units)):
            return ControlSets((), shortfall)
        widest = max(int(np.isin(units.layers, band).sum()) for band in bands)
        for k in range(self.neighbours, max(widest, self.neighbours) + 1):
            parts = [_stand_ins(candidate, units, strength, band, k) for band in bands]
            if math.prod(part.possible for part in parts) >= self.n:
                break
        return from_windows(parts, units, self.n, self.seed, shortfall)


def _stand_ins(
    candidate: Sequence[int], units: UnitSpace, strength: Float[np.ndarray, " units"], band: Sequence[int], k: int
) -> Windows:
    """For each of the candidate's units in a band of layers, those whose rank is within that of the k-th nearest."""
    from scipy.stats import rankdata

    inside = [int(unit) for unit in units.canonical if units.layers[unit] in band]
    rank = dict(zip(inside, rankdata(strength[inside]), strict=True))
    pool = sorted(set(inside).difference(candidate), key=lambda unit: (rank[unit], units.units[unit]))
    ranks = np.array([rank[unit] for unit in pool])
    own = np.array(sorted(rank[unit] for unit in inside if unit in set(candidate)))
    reach = np.sort(np.abs(ranks - own[:, None]), axis=1)[:, min(k, len(pool)) - 1]
    lows, highs = np.searchsorted(ranks, own - reach, "left"), np.searchsorted(ranks, own + reach, "right")
    return Windows(tuple(pool), tuple(lows.tolist()), tuple(highs.tolist()))


@hookimpl
def harness_controls() -> list[type[LayerAndActivityMatched]]:
    return [LayerAndActivityMatched]
