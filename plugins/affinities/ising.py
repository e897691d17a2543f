"""Pairwise Ising couplings by pseudolikelihood."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

import numpy as np
from annotated_types import Ge, Gt
from harness_plugins.affinities._pseudolikelihood import regress_each
from jaxtyping import Int

from harness import Affinity, AffinityMethod, Sign, Spins, hookimpl, signed_part


@dataclass(frozen=True)
class Ising(AffinityMethod):
    r"""Couplings of a pairwise Ising model, fitted by pseudolikelihood.

    .. math:: P(s_i \mid s_{-i}) = \sigma\bigl(2 s_i (h_i + \textstyle\sum_j J_{ij} s_j)\bigr)

    One L2-regularised logistic regression per unit on all others (coefficients are :math:`2 J_{ij}`, the intercept is
    :math:`2 h_i`); ``J`` is the mean of the two estimates of each pair. ``transform`` converts it to an affinity:
    ``abs`` |J| as published (opposite units count as similar), ``positive`` max(J, 0), ``signed`` J.

    Input: spins [n_observations, n_units] in {-1, +1}. Output: affinity [n_units, n_units], dimensionless.
    A unit with constant spins has no regression: its couplings are zero, and ``diagnostics.constant`` lists it.
    ``diagnostics.not_converged`` lists units whose fit stopped before it converged. ``diagnostics.near_separable``
    lists units whose spin the fit predicts almost without error: their median margin
    :math:`2 s_i(h_i + \sum_j J_{ij} s_j)` is above ``separable_margin``. Their |J| is large because only the penalty
    bounds it, not because the units act together (published couplings of OLMoE on natural text show it: row sums 19
    times the median).

    With ``covariates=strata`` the regressions also have one column for each stratum of the cell's ``stratifier`` (1 for
    its examples, 0 for others), and examples are not divided for the proposal: units that only share a route are then
    not coupled. These columns are penalised like the couplings, as in the paper: without a penalty their sum is the
    intercept, and a unit that is constant in a stratum has an infinite coefficient. With a large ``l2`` part of the
    route's share is left in J.

    Errors: ``covariates=strata`` in a cell without strata, or where observations are not examples.
    Source: Besag 1975; Ravikumar et al. 2010; closure paper, section 3.5 (l2 = 1e-3, 500 iterations of L-BFGS with
    scikit-learn; here the same steps are computed for all units at once).
    """

    name: ClassVar[str] = "ising"
    l2: Annotated[float, Gt(0)] = field(default=1e-3, metadata={"help": "penalty; scikit-learn's C is 1/l2"})
    max_iter: Annotated[int, Ge(1)] = field(default=500, metadata={"help": "iterations of L-BFGS per unit"})
    transform: Sign = field(default="abs", metadata={"help": "part of J that is the affinity"})
    # Two units with identical spins predict each other without error; the penalty stops their margin at 8 to 11.
    separable_margin: float = field(default=6.0, metadata={"help": "median margin that counts as near-separable"})

    covariates: Literal["none", "strata"] = field(
        default="none", metadata={"help": "also regress on the stratum of each example (stratifier=...)", "added": True}
    )

    @property
    def given_strata(self) -> bool:  # type: ignore[override]  # a parameter decides
        """Whether the call takes strata."""
        return self.covariates == "strata"

    def __call__(self, spins: Spins, strata: Int[np.ndarray, " observations"] | None = None) -> Affinity:
        units, constant = spins.units, set(spins.constant)
        couplings = np.zeros((len(units), len(units)))
        varying = np.array([unit for unit in units.canonical if unit not in constant], dtype=int)
        unfinished, separable = [], []
        if len(varying) > 1:
            columns = None if strata is None else strata[:, None] == np.unique(strata[strata >= 0])
            fits = regress_each(spins.values[:, varying], self.l2, self.max_iter, covariates=columns)
            couplings[np.ix_(varying, varying)] = (fits.coefficients + fits.coefficients.T) / 4
            unfinished = sorted(varying[~fits.converged].tolist())
            separable = sorted(varying[fits.margins > self.separable_margin].tolist())
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
