"""Pairwise Ising couplings by pseudolikelihood."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from harness_plugins.affinities._pseudolikelihood import regress_each

from harness import Affinity, HarnessError, Sign, Spins, hookimpl, signed_part


@dataclass(frozen=True)
class Ising:
    r"""Couplings of a pairwise Ising model, fitted by pseudolikelihood.

    .. math:: P(s_i \mid s_{-i}) = \sigma\bigl(2 s_i (h_i + \textstyle\sum_j J_{ij} s_j)\bigr)

    One L2-regularised logistic regression per unit on all others (coefficients are :math:`2 J_{ij}`, intercept
    :math:`2 h_i`); ``J`` is the mean of the two estimates of each pair. ``transform`` says what of it is affinity:
    ``abs`` |J| as published (units that oppose each other count as alike), ``positive`` max(J, 0), ``signed`` J.

    Input: spins [n_observations, n_units] in {-1, +1}. Output: affinity [n_units, n_units], dimensionless.
    A unit that never changes has no regression: its couplings are zero and it is named in ``diagnostics.constant``.
    Units whose fit stopped before it converged are named in ``diagnostics.not_converged``. Units whose spin the fit
    predicts almost surely (median margin :math:`2 s_i(h_i + \sum_j J_{ij} s_j)` above ``separable_margin``) are named
    in ``diagnostics.near_separable``: there |J| is large because nothing bounds it but the penalty, not because units
    act together (published couplings of OLMoE on natural text show it: row sums 19 times the median).

    Errors: non-positive ``l2`` or ``max_iter``.
    Source: Besag 1975; Ravikumar et al. 2010; closure paper, section 3.5 (l2 = 1e-3, 500 iterations of L-BFGS with
    scikit-learn, whose steps are taken here for all units at once).
    """

    name: ClassVar[str] = "ising"
    l2: float = field(default=1e-3, metadata={"help": "penalty; scikit-learn's C is 1/l2"})
    max_iter: int = field(default=500, metadata={"help": "iterations of L-BFGS per unit"})
    transform: Sign = field(default="abs", metadata={"help": "what of J is affinity"})
    # An alias, which is predicted without error, reaches a margin of 8 to 11 before the penalty stops it.
    separable_margin: float = field(default=6.0, metadata={"help": "median margin that counts as near-separable"})

    def __post_init__(self) -> None:
        if self.l2 <= 0 or self.max_iter <= 0:
            raise HarnessError(f"affinity.l2={self.l2}, affinity.max_iter={self.max_iter}: both must be positive.")

    def __call__(self, spins: Spins) -> Affinity:
        units, constant = spins.units, set(spins.constant)
        couplings = np.zeros((len(units), len(units)))
        varying = np.array([unit for unit in units.canonical if unit not in constant], dtype=int)
        unfinished, separable = [], []
        if len(varying) > 1:
            found = regress_each(spins.values[:, varying], self.l2, self.max_iter)
            couplings[np.ix_(varying, varying)] = (found.coefficients + found.coefficients.T) / 4
            unfinished = sorted(varying[~found.converged].tolist())
            separable = sorted(varying[found.margins > self.separable_margin].tolist())
        return Affinity(
            signed_part(couplings, self.transform),
            units,
            {
                "constant": units.names(spins.constant),
                "near_separable": units.names(separable),
                "not_converged": units.names(unfinished),
            },
        )


@hookimpl
def harness_affinities() -> list[type[Ising]]:
    return [Ising]
