"""Probability that the router gives each expert."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from harness import Activity, Recording, Rows, Source, hookimpl


@dataclass(frozen=True)
class RouterProbability:
    r"""How likely the router of a mixture of experts finds each expert at the query.

    .. math:: a_{e,x} = \operatorname{softmax}(r^{(l)}_{e}[q_e])_x

    with r the logits of the router of the expert's layer, over all its experts, before the best few are taken. The
    activities of a layer's experts add to one: what one gains, others lose, and affinities inside a layer show it.

    Input: probabilities at the query [examples, experts, 1]. Output: activity [examples, units] in [0, 1].

    Errors: a subject whose units are not experts.
    Source: closure paper, section 3.2 (routing weights at the query).
    """

    name: ClassVar[str] = "router_probability"
    source: ClassVar[Source] = "router"

    def read(self, rows: Rows) -> Float[np.ndarray, "examples experts"]:
        return rows.values[:, :, 0]

    def __call__(self, recording: Recording) -> Activity:
        return Activity(recording.readings["signal"], recording.units)


@hookimpl
def harness_signals() -> list[type[RouterProbability]]:
    return [RouterProbability]
