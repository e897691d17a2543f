"""Cosine between units."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from harness import Activity, Affinity, Sign, Spins, hookimpl, signed_part


@dataclass(frozen=True)
class Cosine:
    r"""Uncentred cosine between two units' observations: near 1 for any two units that are usually on.

    .. math:: c_{ij} = \frac{\sum_e x_{ei} x_{ej}}{\sqrt{\sum_e x_{ei}^2 \sum_e x_{ej}^2}}

    Unlike a correlation it depends on where zero is: of spins it is the share of observations in which two units agree
    minus the share in which they do not; of activity (``binarizer=none``) it is about being active together.
    ``transform`` says what of it is affinity: ``abs``, ``positive`` or ``signed``.

    Input: observations [n_observations, n_units], spins or activity. Output: affinity [n_units, n_units] in [-1, 1].
    A unit that never changes (all zero, or always on) would be near whatever is usually on: its row is zero and it is
    named in ``diagnostics.constant``.

    Source: Salton & McGill 1983.
    """

    name: ClassVar[str] = "cosine"
    transform: Sign = field(default="abs", metadata={"help": "what of the cosine is affinity"})

    def __call__(self, observations: Spins | Activity) -> Affinity:
        units, constant = observations.units, observations.constant
        matrix = np.zeros((len(units), len(units)))
        varying = [unit for unit in units.canonical if unit not in constant]
        values = observations.values[:, varying].astype(np.float64)
        directions = values / np.linalg.norm(values, axis=0)
        matrix[np.ix_(varying, varying)] = np.clip(directions.T @ directions, -1, 1)
        np.fill_diagonal(matrix, 0.0)
        return Affinity(signed_part(matrix, self.transform), units, {"constant": units.names(constant)})


@hookimpl
def harness_affinities() -> list[type[Cosine]]:
    return [Cosine]
