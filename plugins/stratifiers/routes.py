"""Strata of examples that take similar routes through a mixture of experts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

import numpy as np
from annotated_types import Ge
from jaxtyping import Float

from harness import Recording, Rows, Source, Strata, Stratifier, hookimpl

from ._strata import around_centres


@dataclass(frozen=True)
class Routes(Stratifier):
    r"""Examples that take similar routes: k-means on what all routers say at the query.

    .. math:: s(e) = \arg\min_c \lVert p_e - \mu_c \rVert_2, \qquad p_e = (p_e^{(1)}, \dots, p_e^{(L)})

    ``p^(l)``: the probabilities of all experts of layer l (softmax, or sigmoid in models that have it), before the top
    k of them are chosen. With ``code=top1``: 1 for the most probable expert of the layer, 0 for the others. Layers may
    have routers of different sizes. The ``k`` centres are fitted on the examples proposed on (k-means++, the best of 10
    starts) and applied to any others. A centre with fewer than ``smallest`` examples is no stratum; its examples are in
    none.

    Input: probabilities [examples, sum of experts] at the query. Output: strata ``route 0`` .. in the order of the
    centres.

    Errors: a dense model; fewer examples, or fewer different routes, than centres; no centre with enough examples.
    Source: closure paper, section 5, whose single random start is that of ``kmeans`` with ``reads=router``.
    """

    name: ClassVar[str] = "routes"
    source: ClassVar[Source] = "router"
    code: Literal["probability", "top1"] = field(
        default="probability", metadata={"help": "what is clustered: probabilities, or the top expert of each layer"}
    )
    k: Annotated[int, Ge(2)] = field(default=4, metadata={"help": "number of centres"})
    smallest: Annotated[int, Ge(2)] = field(default=20, metadata={"help": "fewest examples of a stratum"})
    seed: int = field(default=0, metadata={"help": "seed of the first centres"})

    def read(self, rows: Rows) -> Float[np.ndarray, "examples experts"]:
        """The code of one router."""
        probabilities = rows.values[:, :, 0]
        if self.code == "probability":
            return probabilities
        top: Float[np.ndarray, "examples experts"] = np.zeros_like(probabilities)
        top[np.arange(len(top)), probabilities.argmax(axis=1)] = 1
        return top

    def __call__(self, recording: Recording) -> Strata:
        return around_centres(
            self.name, "route", recording, self.k, self.smallest, self.seed, init="k-means++", starts=10
        )


@hookimpl
def harness_stratifiers() -> list[type[Routes]]:
    return [Routes]
