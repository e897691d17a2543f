"""Pearson correlation between units."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from harness import Activity, Affinity, AffinityMethod, Sign, Spins, hookimpl, signed_part


@dataclass(frozen=True)
class Pearson(AffinityMethod):
    r"""Linear correlation between the spins or the activity of two units.

    .. math:: \rho_{ij} = \frac{\sum_e (x_{ei} - \bar x_i)(x_{ej} - \bar x_j)}
              {\sqrt{\sum_e (x_{ei} - \bar x_i)^2 \sum_e (x_{ej} - \bar x_j)^2}}

    For spins it is the phi coefficient; with ``binarizer=none`` it is the correlation of activity. ``transform``
    converts it to an affinity: ``abs`` (opposite units count as similar), ``positive`` or ``signed``.

    Input: observations [n_observations, n_units], spins or activity. Output: affinity [n_units, n_units] in [-1, 1].
    A unit with constant observations has no correlation: its row is zero, and ``diagnostics.constant`` lists it.

    Source: Pearson 1895; closure paper, section 8.3 (compares raw activity and spins).
    """

    name: ClassVar[str] = "pearson"
    transform: Sign = field(default="abs", metadata={"help": "part of the correlation that is the affinity"})

    def __call__(self, observations: Spins | Activity) -> Affinity:
        units, constant = observations.units, observations.constant
        matrix = np.zeros((len(units), len(units)))
        varying = [unit for unit in units.canonical if unit not in constant]
        if len(varying) > 1:
            correlations = np.corrcoef(observations.values[:, varying].astype(np.float64), rowvar=False)
            matrix[np.ix_(varying, varying)] = (correlations + correlations.T) / 2
        np.fill_diagonal(matrix, 0.0)
        return Affinity(signed_part(matrix, self.transform), units, {"constant": units.names(constant)})


@hookimpl
def harness_affinities() -> list[type[Pearson]]:
    return [Pearson]
