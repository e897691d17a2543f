"""Partial correlations by graphical lasso."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Ge, Interval
from jaxtyping import Float

from harness import Activity, Affinity, AffinityMethod, HarnessError, Sign, Spins, hookimpl, signed_part

TOLERANCE = 1e-4  # of the duality gap, as in scikit-learn


@dataclass(frozen=True)
class PartialCorrelation(AffinityMethod):
    r"""Correlation of two units that no other unit explains, by graphical lasso.

    .. math:: P = \arg\max_{P \succ 0} \log\det P - \operatorname{tr}(R P) - \alpha \sum_{i \ne j} |P_{ij}|,
              \qquad a_{ij} = -\frac{P_{ij}}{\sqrt{P_{ii} P_{jj}}}

    ``R`` is the correlation matrix of the units that vary. ``transform`` converts :math:`a` to an affinity: ``abs``,
    ``positive`` or ``signed``.

    Input: observations [n_observations, n_units], spins or activity. Output: affinity [n_units, n_units] in [-1, 1].
    A unit with constant observations has no neighbours, and ``diagnostics.constant`` lists it. If the fit stopped
    before it converged, ``diagnostics.not_converged`` gives its duality gap.

    Errors: an ``alpha`` too small for a correlation matrix that is close to singular.
    Source: Friedman, Hastie & Tibshirani 2008 (scikit-learn's solver).
    """

    name: ClassVar[str] = "partial_correlation"
    alpha: Annotated[float, Interval(gt=0, le=1)] = field(
        default=0.05, metadata={"help": "penalty, in units of correlation: larger gives fewer neighbours"}
    )
    max_iter: Annotated[int, Ge(1)] = field(
        default=500, metadata={"help": "rounds over all units, and within the fit of each unit"}
    )
    transform: Sign = field(default="abs", metadata={"help": "part of the partial correlation that is the affinity"})

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
        """The precision matrix and its duality gap."""
        from sklearn.covariance import graphical_lasso

        state = np.random.get_state()  # the solver draws from the global generator without need
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the duality gap reports the same problem
                # With inner problems solved no better than the outer one (scikit-learn's default) the solver stalls: on
                # 256 units the gap is 1e-2 after 100 rounds; with this tolerance it is below 1e-4 after ten. max_iter
                # bounds the inner rounds, too: with scikit-learn's 100, many fits of 500 units and more fail.
                _, precision, costs = graphical_lasso(
                    correlations, self.alpha, tol=TOLERANCE, enet_tol=1e-8, max_iter=self.max_iter, return_costs=True
                )
            np.linalg.cholesky(precision)  # the solver can report convergence to a matrix that is not positive definite
        except (FloatingPointError, np.linalg.LinAlgError) as error:
            raise HarnessError(
                f"affinity.alpha={self.alpha}: the fit to {len(correlations)} units failed, because their correlation "
                "matrix is close to singular and the penalty is too small for it.",
                f"Raise the penalty (affinity.alpha={min(2 * self.alpha, 1):g}) or affinity.max_iter, or use more "
                "examples.",
            ) from error
        finally:
            np.random.set_state(state)
        return precision, abs(float(costs[-1][1]))


@hookimpl
def harness_affinities() -> list[type[PartialCorrelation]]:
    return [PartialCorrelation]
