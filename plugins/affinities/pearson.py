"""Pearson correlation between units."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from harness import Activity, Affinity, Sign, Spins, hookimpl, signed_part


@dataclass(frozen=True)
class Pearson:
    r"""Linear correlation between two units, of their spins or of their activity.

    .. math:: \rho_{ij} = \frac{\sum_e (x_{ei} - \bar x_i)(x_{ej} - \bar x_j)}
              {\sqrt{\sum_e (x_{ei} - \bar x_i)^2 \sum_e (x_{ej} - \bar x_j)^2}}

    After a binarizer it is the phi coefficient of spins; with ``binarizer=none``, the correlation of activity.
    ``transform`` says what of it is affinity: ``abs`` (units that oppose each other count as alike), ``positive`` or
    ``signed``.

    Input: observations [n_observations, n_units], spins or activity. Output: affinity [n_units, n_units] in [-1, 1].
    A unit that never changes has no correlation: its row is zero and it is named in ``diagnostics.constant``.

    Source: Pearson 1895; closure paper, section 8.3 (compared: raw activity and spins).
    """

    name: ClassVar[str] = "pearson"
    transform: Sign = field(default="abs", metadata={"help": "what of the correlation is affinity"})

    def __call__(self, observations: Spins | Activity) -> Affinity:
        units, constant = observations.units, observations.constant
        matrix = np.zeros((len(units), len(units)))
        varying = [unit for unit in units.canonical if unit not in constant]
        if len(varying) > 1:
            found = np.corrcoef(observations.values[:, varying].astype(np.float64), rowvar=False)
            matrix[np.ix_(varying, varying)] = (found + found.T) / 2
        np.fill_diagonal(matrix, 0.0)
        return Affinity(signed_part(matrix, self.transform), units, {"constant": units.names(constant)})


@hookimpl
def harness_affinities() -> list[type[Pearson]]:
    return [Pearson]
