"""Weight of a source in the mixture that a sublayer reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from harness import Rows, Signal, Source, hookimpl


@dataclass(frozen=True)
class RoutingWeight(Signal):
    r"""How much of its input a sublayer takes from a source, at the query.

    .. math:: a_{e, i \to l} = \alpha_{i \to l} = \operatorname{softmax}_i(\text{logits}_l)

    The weights of a router sum to 1: if one rises, others fall. Affinities within a router reflect this. The size of
    the source is not counted: ``signal=activation`` is the norm of the weighted source, :math:`\alpha \lVert v \rVert`.

    Input: weights at the query [examples, units, 1]. Output: activity [examples, units] in [0, 1]. Its score, the mean,
    is the routing mass.

    Errors: a subject whose units are not sources of depth routers.
    Source: Kimi Team 2026, "Attention Residuals", equation of alpha; the mass of Javadov 2026.
    """

    name: ClassVar[str] = "routing_weight"
    source: ClassVar[Source] = "routing_weight"

    def read(self, rows: Rows) -> Float[np.ndarray, "examples units"]:
        return rows.values[:, :, 0]


@hookimpl
def harness_signals() -> list[type[RoutingWeight]]:
    return [RoutingWeight]
