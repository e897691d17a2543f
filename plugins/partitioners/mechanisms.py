"""Mechanisms across layers: components and spectral clusters, with a group of units that are always on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import numpy as np
import scipy  # scipy.sparse loads at first use: `harness list` must stay fast
from annotated_types import Gt, Le
from jaxtyping import Float, Int

from harness import Activity, Affinity, Partition, hookimpl

from .eigengap import Eigengap


@dataclass(frozen=True)
class Mechanisms(Eigengap):
    r"""Groups of the partitioner ``eigengap``; units that are always on are a group of their own.

    .. math:: g(u) = \arg\max_g \operatorname{corr}(a_u, \bar a_g)

    A unit is always on if its activity is above ``on`` in more than ``always_on`` of the observations in which any unit
    is. Such units hardly vary, so that their correlations are noise. They are taken out before the clustering and form
    one group. With ``assign``, units in no group join the group with whose mean activity they correlate most, if above
    zero (the equation); the published results mostly leave them out.

    Input: affinity [n_units, n_units], non-negative; activity [n_observations, n_units]. Output: one partition.
    Diagnostics: those of ``eigengap``; the units that are ``always_on``, and those that were ``assigned``.

    Errors: those of ``eigengap``.
    Source: Seshadri et al., cross-layer clustering for SPD, algorithm 1 and section 4 (remaining nodes).
    """

    name: ClassVar[str] = "mechanisms"
    always_on: Annotated[float, Gt(0), Le(1)] = field(
        default=0.95, metadata={"help": "share of observations from which a unit is always on; 1: none is"}
    )
    on: float = field(default=0.1, metadata={"help": "a unit is on in an observation if its activity is above this"})
    assign: bool = field(
        default=False, metadata={"help": "let units in no group join the group that they correlate with most"}
    )

    def __call__(self, affinity: Affinity, activity: Activity) -> list[Partition]:  # type: ignore[override]  # it asks for more
        on = activity.values > self.on
        seen = on.any(axis=1).sum()
        always = np.flatnonzero(on.sum(axis=0) > self.always_on * seen)
        labels, diagnostics = self._clusters(affinity, always)
        if self.assign and labels.max() >= 0:
            joined = _nearest(activity.values, labels, np.setdiff1d(np.flatnonzero(labels < 0), always))
            labels[list(joined)] = list(joined.values())
            diagnostics["assigned"] = activity.units.names(joined)
        if len(always):
            labels[always] = labels.max() + 1
            diagnostics["always_on"] = activity.units.names(always)
        return [Partition(int(labels.max()) + 1, labels, diagnostics=diagnostics)]

    def _clusters(self, affinity: Affinity, always: Int[np.ndarray, " always"]) -> tuple[np.ndarray, dict[str, object]]:
        """The groups of all other units. Without a link between any of them, there are none."""
        kept = np.ones(len(affinity.units))
        kept[always] = 0
        others = (
            scipy.sparse.diags_array(kept) @ scipy.sparse.csr_array(affinity.matrix) @ scipy.sparse.diags_array(kept)
        )
        others.eliminate_zeros()
        if not others.nnz and len(always):
            return np.full(len(kept), -1, dtype=np.int64), {}
        found = super().__call__(Affinity(scipy.sparse.csr_array(others), affinity.units))[0]
        return found.labels.copy(), dict(found.diagnostics)


def _nearest(
    values: Float[np.ndarray, "observations units"],
    labels: Int[np.ndarray, " units"],
    alone: Int[np.ndarray, " alone"],
) -> dict[int, int]:
    """The group with whose mean activity each of these units correlates most, where that is above zero."""
    means = np.stack([values[:, labels == group].mean(axis=1) for group in range(labels.max() + 1)], axis=1)
    means = means - means.mean(axis=0)
    own = values[:, alone] - values[:, alone].mean(axis=0)
    length = np.linalg.norm(own, axis=0)[:, None] * np.linalg.norm(means, axis=0)
    rho = np.divide(own.T @ means, length, out=np.zeros(length.shape), where=length > 0)
    return {int(unit): int(row.argmax()) for unit, row in zip(alone, rho, strict=True) if row.max() > 0}


@hookimpl
def harness_partitioners() -> list[type[Mechanisms]]:
    return [Mechanisms]
