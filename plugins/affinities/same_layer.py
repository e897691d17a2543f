"""Affinity by layer only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from harness import Affinity, AffinityMethod, UnitSpace, hookimpl


@dataclass(frozen=True)
class SameLayer(AffinityMethod):
    r"""1 within a layer and 0 between layers: a baseline that uses only the position of units.

    .. math:: a_{ij} = [\text{layer}_i = \text{layer}_j] \text{ for } i \ne j

    Input: units. Output: affinity [n_units, n_units] in {0, 1}.
    Source: none; a baseline.
    """

    name: ClassVar[str] = "same_layer"

    def __call__(self, units: UnitSpace) -> Affinity:
        matrix = (units.depth_of[:, None] == units.depth_of[None, :]).astype(np.float64)
        np.fill_diagonal(matrix, 0.0)
        return Affinity(matrix, units)


@hookimpl
def harness_affinities() -> list[type[SameLayer]]:
    return [SameLayer]
