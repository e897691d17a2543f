# my_affinity.py
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Gt

from harness import Affinity, AffinityMethod, Spins, hookimpl


@dataclass(frozen=True)
class Agreement(AffinityMethod):
    """Share of observations in which two units have the same spin, above chance: 2 P(s_i = s_j) - 1, clamped at 0."""

    name: ClassVar[str] = "agreement"
    power: Annotated[float, Gt(0)] = field(default=1.0, metadata={"help": "above 1, strong ties count more"})

    def __call__(self, spins: Spins) -> Affinity:
        s = spins.values.astype(float)
        matrix = np.maximum(s.T @ s / len(s), 0) ** self.power
        constant = list(spins.constant)  # a unit that never changes has no neighbours
        matrix[constant, :] = matrix[:, constant] = 0
        np.fill_diagonal(matrix, 0)
        return Affinity(matrix, spins.units, {"constant": spins.units.names(constant)})


@hookimpl
def harness_affinities() -> list[type[Agreement]]:
    return [Agreement]
