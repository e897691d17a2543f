"""One group per layer: what any method that claims to cross layers has to beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from harness import Partition, UnitSpace, hookimpl


@dataclass(frozen=True)
class Layers:
    r"""One group per layer.

    .. math:: g_i = \operatorname{layer}(i)

    A baseline: it looks at nothing but the names of the units.

    Input: units. Output: one partition, ``k`` the number of layers that have units, groups in the order of layers.

    Errors: none.
    Source: none; a baseline.
    """

    name: ClassVar[str] = "layers"

    def __call__(self, units: UnitSpace) -> list[Partition]:
        layers, labels = np.unique(units.layers, return_inverse=True)
        return [Partition(len(layers), labels.astype(np.int64))]


@hookimpl
def harness_partitioners() -> list[type[Layers]]:
    return [Layers]
