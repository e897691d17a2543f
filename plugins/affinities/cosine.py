"""Cosine between units."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from harness import Activity, Affinity, AffinityMethod, Sign, Spins, hookimpl, signed_part


@dataclass(frozen=True)
class Cosine(AffinityMethod):
    r"""Uncentred cosine between the observations of two units; near 1 for any two units that are usually on.

    .. math:: c_{ij} = \frac{\sum_e x_{ei} x_{ej}}{\sqrt{\sum_e x_{ei}^2 \sum_e x_{ej}^2}}

    Unlike a correlation, it depends on where zero is. For spins it is the fraction of observations in which two units
    agree, minus the fraction in which they disagree. For activity (``binarizer=none``) it measures being active
    together. ``transform`` converts it to an affinity: ``abs``, ``positive`` or ``signed``.

    Input: observations [n_observations, n_units], spins or activity. Output: affinity [n_units, n_units] in [-1, 1].
    A unit with constant observations (all zero, or always on) would be similar to every unit that is usually on.
    Therefore its row is zero, and ``diagnostics.constant`` lists it.

    Source: Salton & McGill 1983.
    """

    name: ClassVar[str] = "cosine"
    transform: Sign = field(default="abs", metadata={"help": "part of the cosine that is the affinity"})

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
