"""How often two experts are chosen for the same examples."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np

from harness import Affinity, AffinityMethod, Spins, hookimpl


@dataclass(frozen=True)
class CoRouting(AffinityMethod):
    r"""The share of examples that are routed to both of two experts, among those that are routed to one of them.

    .. math:: J_{ij} = \frac{N_{i \wedge j}}{N_{i \vee j}} \quad (\text{jaccard}), \qquad
              \frac{n\, N_{i \wedge j}}{N_i N_j} \quad (\text{lift})

    N counts examples with spin +1: with ``signal=usage`` or ``signal=expert_specialisation`` and ``binarizer=mean``,
    those whose query is routed to the unit. Lift is 1 for experts that are chosen independently, however often.
    Two experts of a layer with top-1 routing are never chosen together: groups then lie across layers.

    Input: spins [n_observations, n_units]. Output: affinity [n_units, n_units], in [0, 1] or a ratio. A unit that is
    never, or always, +1 has the row zero, and ``diagnostics.constant`` lists it.

    Source: Jaccard 1901; co-activation of experts as reported for OLMoE (Muennighoff et al. 2024).
    """

    name: ClassVar[str] = "co_routing"
    measure: Literal["jaccard", "lift"] = field(
        default="jaccard", metadata={"help": "share of examples in common, or ratio to independent routing"}
    )

    def __call__(self, spins: Spins) -> Affinity:
        up = (spins.values > 0).astype(np.float64)
        both = up.T @ up
        each = np.diagonal(both)
        if self.measure == "lift":
            whole, common = np.outer(each, each), len(up) * both
        else:
            whole, common = each[:, None] + each[None, :] - both, both
        matrix = np.divide(common, whole, out=np.zeros_like(both), where=whole > 0)
        constant = list(spins.constant)
        matrix[constant, :] = matrix[:, constant] = 0.0
        np.fill_diagonal(matrix, 0.0)
        return Affinity(matrix, spins.units, {"constant": spins.units.names(constant)})


@hookimpl
def harness_affinities() -> list[type[CoRouting]]:
    return [CoRouting]
