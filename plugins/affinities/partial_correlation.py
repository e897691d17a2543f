"""Partial correlations by graphical lasso."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from harness import Activity, Affinity, HarnessError, Sign, Spins, hookimpl, signed_part

TOLERANCE = 1e-4  # of the duality gap, as in scikit-learn


@dataclass(frozen=True)
class PartialCorrelation:
    r"""Correlation of two units that no other unit accounts for, by graphical lasso.

    .. math:: P = \arg\max_{P \succ 0} \log\det P - \operatorname{tr}(R P) - \alpha \sum_{i \ne j} |P_{ij}|,
              \qquad a_{ij} = -\frac{P_{ij}}{\sqrt{P_{ii} P_{jj}}}

    ``R`` is the correlation matrix of the units that vary. ``transform`` says what of :math:`a` is affinity: ``abs``,
    ``positive`` or ``signed``.

    Input: observations [n_observations, n_units], spins or activity. Output: affinity [n_units, n_units] in [-1, 1].
    A unit that never changes has no neighbours and is named in ``diagnostics.constant``. A fit that stopped before it
    converged says in ``diagnostics.not_converged`` how far off it is.

    Errors: ``alpha`` outside (0, 1], non-positive ``max_iter``; an ``alpha`` too small for correlations this close to
    singular.
    Source: Friedman, Hastie & Tibshirani 2008 (scikit-learn's solver).
    """

    name: ClassVar[str] = "partial_correlation"
    alpha: float = field(default=0.05, metadata={"help": "penalty, in correlation: larger leaves fewer neighbours"})
    max_iter: int = field(default=500, metadata={"help": "rounds over all units, and within each unit's own fit"})
    transform: Sign = field(default="abs", metadata={"help": "what of the partial correlation is affinity"})

    def __post_init__(self) -> None:
        if not 0 < self.alpha <= 1 or self.max_iter <= 0:
            raise HarnessError(
                f"affinity.alpha={self.alpha}, affinity.max_iter={self.max_iter}: alpha lies above 0 and up to "
                "1, and at least one round is needed."
            )

    def __call__(self, observations: Spins | Activity) -> Affinity:
        units, constant = observations.units, observations.constant
        matrix = np.zeros((len(units), len(units)))
        varying = [unit for unit in units.canonical if unit not in constant]
        gap = 0.0
        if len(varying) > 1:
            values = observations.values[:, varying].astype(np.float64)
            precision, gap = self._fit(np.atleast_2d(np.corrcoef(values, rowvar=False)))
            scale = np.sqrt(np.diagonal(precision))
            matrix[np.ix_(varying, varying)] = -precision / np.outer(scale, scale)
        np.fill_diagonal(matrix, 0.0)
        unfinished = f"duality gap {gap:.1e} after {self.max_iter} rounds" if gap >= TOLERANCE else ""
        return Affinity(
            signed_part((matrix + matrix.T) / 2, self.transform),
            units,
            {"constant": units.names(constant), "not_converged": unfinished},
        )

    def _fit(self, correlations: Float[np.ndarray, "varying varying"]) -> tuple[np.ndarray, float]:
        """The precision matrix, and how far it is from optimal."""
        from sklearn.covariance import graphical_lasso

        state = np.random.get_state()  # the solver takes a number from the global generator, and does not use it
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what they warn of is in the duality gap
                # Inner problems solved no better than the outer one (scikit-learn's default) make it stall: on 256
                # units 100 rounds end at a gap of 1e-2, where these end below 1e-4 after ten. Inner rounds are bounded
                # by max_iter, too: at scikit-learn's 100, many fits of 500 units and more break off.
                _, precision, costs = graphical_lasso(
                    correlations, self.alpha, tol=TOLERANCE, enet_tol=1e-8, max_iter=self.max_iter, return_costs=True
                )
            np.linalg.cholesky(precision)  # the solver may say that it converged to what is not positive definite
        except (FloatingPointError, np.linalg.LinAlgError) as error:
            raise HarnessError(
                f"affinity.alpha={self.alpha}: the fit to {len(correlations)} units breaks down: correlations "
                "too close to singular for so small a penalty.",
                f"Raise it (affinity.alpha={2 * self.alpha:g}), or affinity.max_iter, or use more examples.",
            ) from error
        finally:
            np.random.set_state(state)
        return precision, abs(float(costs[-1][1]))


@hookimpl
def harness_affinities() -> list[type[PartialCorrelation]]:
    return [PartialCorrelation]
