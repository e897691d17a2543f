"""Pairwise Ising couplings by pseudolikelihood."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from harness.errors import HarnessError
from harness.groups import Affinity, Sign, signed_part
from harness.hookspecs import hookimpl
from harness.recording import Spins


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
    Source: Besag 1975; Ravikumar et al. 2010; closure paper, section 3.5 (l2 = 1e-3, 500 iterations of L-BFGS).
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
        n = len(spins.units)
        couplings = np.zeros((n, n))
        unfinished, separable = [], []
        constant = set(spins.constant)
        varying = np.array([unit for unit in spins.units.canonical if unit not in constant], dtype=int)
        design = spins.values.astype(np.float64)
        for unit in varying:
            others = varying[varying != unit]
            if not len(others):
                continue
            weights, margin, finished = self._fit(design[:, others], spins.values[:, unit])
            couplings[unit, others] = weights / 2
            if not finished:
                unfinished.append(int(unit))
            if margin > self.separable_margin:
                separable.append(int(unit))
        couplings = (couplings + couplings.T) / 2
        return Affinity(
            signed_part(couplings, self.transform),
            spins.units,
            {
                "constant": spins.units.names(spins.constant),
                "near_separable": spins.units.names(separable),
                "not_converged": spins.units.names(unfinished),
            },
        )

    def _fit(
        self, others: Float[np.ndarray, "observations others"], spin: np.ndarray
    ) -> tuple[Float[np.ndarray, " others"], float, bool]:
        """Coefficients of one unit's regression, its median margin, and whether it converged."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # reported by name, in the diagnostics
            fit = LogisticRegression(C=1 / self.l2, max_iter=self.max_iter).fit(others, spin)
        margin = float(np.median(fit.decision_function(others) * spin))
        return fit.coef_[0], margin, bool(fit.n_iter_[0] < self.max_iter)


@hookimpl
def harness_affinities() -> list[type[Ising]]:
    return [Ising]
