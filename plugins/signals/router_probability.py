"""Probability that the router gives each expert."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from harness import Rows, Signal, Source, hookimpl


@dataclass(frozen=True)
class RouterProbability(Signal):
    r"""The probability that the router of a mixture of experts gives each expert at the query.

    .. math:: a_{e,x} = \operatorname{softmax}(r^{(l)}_{e}[q_e])_x

    r are the router logits of the expert's layer, over all its experts, before the top k are selected. The activities
    of a layer's experts sum to 1: if one rises, others fall. Affinities within a layer reflect this.

    Input: probabilities at the query [examples, experts, 1]. Output: activity [examples, units] in [0, 1].

    Errors: a subject whose units are not experts.
    Source: closure paper, section 3.2 (routing weights at the query).
    """

    name: ClassVar[str] = "router_probability"
    source: ClassVar[Source] = "router"

    def read(self, rows: Rows) -> Float[np.ndarray, "examples experts"]:
        return rows.values[:, :, 0]


@hookimpl
def harness_signals() -> list[type[RouterProbability]]:
    return [RouterProbability]
