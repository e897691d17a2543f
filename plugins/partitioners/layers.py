"""One group per layer: a baseline for methods that claim to find groups across layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from harness import Partition, Partitioner, UnitSpace, hookimpl


@dataclass(frozen=True)
class Layers(Partitioner):
    r"""One group per layer.

    .. math:: g_i = \operatorname{layer}(i)

    A baseline: it uses only the names of the units.

    Input: units. Output: one partition with the groups in the order of layers; ``k`` is the number of layers with
    units.

    Errors: none.
    Source: none; a baseline.
    """

    name: ClassVar[str] = "layers"

    def __call__(self, units: UnitSpace) -> list[Partition]:
        layers, labels = np.unique(units.depth_of, return_inverse=True)
        return [Partition(len(layers), labels.astype(np.int64))]


@hookimpl
def harness_partitioners() -> list[type[Layers]]:
    return [Layers]
