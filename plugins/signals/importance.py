"""How much an example needs a unit, as the decomposition of the model says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from harness import Rows, Signal, Source, hookimpl


@dataclass(frozen=True)
class Importance(Signal):
    r"""Causal importance of a subcomponent for each example, as its decomposition predicts it.

    .. math:: g_c(x) = \min(1, \max(0, \gamma_c(x)))

    1: the output needs the subcomponent; 0: it can be left out. Predicted by the importance function that was trained
    with the subcomponents, not measured: ablation measures it. Combine it with ``binarizer=none``; most importances are
    exactly 0 on most examples.

    Input: importances [examples, units, 1]. Output: activity [examples, units] in [0, 1].

    Errors: a subject without subcomponents.
    Source: Bushnaq et al. 2025, stochastic parameter decomposition.
    """

    name: ClassVar[str] = "importance"
    source: ClassVar[Source] = "importance"

    def read(self, rows: Rows) -> Float[np.ndarray, "examples units"]:
        return rows.values[:, :, 0]


@hookimpl
def harness_signals() -> list[type[Importance]]:
    return [Importance]
