"""Activity without the parts that the query position and the rest of the layer explain."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar, Literal

import numpy as np
from annotated_types import MinLen
from jaxtyping import Float

from harness import Activity, Batch, HarnessError, Transform, hookimpl

LARGE = 512
"""In a layer of more units, the sum of the others is the sum of all minus the unit: the cost grows with units."""


@dataclass(frozen=True)
class Residualize(Transform):
    r"""The residual of a unit's activity after regressing out query position and the rest of its layer.

    .. math:: r_{e,i} = a_{e,i} - \hat\alpha_i - \hat\beta_i q_e - \hat\gamma_i m_{e,i}, \qquad
              m_{e,i} = \frac{1}{|L_i| - 1} \sum_{j \in L_i, j \ne i} a_{e,j}

    Ordinary least squares with both regressors, separately for each unit; :math:`L_i` are the units of its layer. Both
    regressors are confounds that make unrelated units look alike: the attention of a diffuse head is nearly a function
    of the context length, and the units of a layer rise and fall together.

    The layer mean excludes the unit itself, because otherwise the regression would remove the unit's own signal. A unit
    that is alone in its layer has no layer regressor. A regressor that is constant (all queries at one position) is
    left out. In a layer with few units the residuals are negatively correlated; with two units, strongly.

    Input: activity [observations, units]; the batch's query positions, or the activity's own. Output: activity of the
    same shape and unit, with mean zero. A residual that is zero up to the rounding of the input is set to zero, so that
    a unit that is a linear function of the regressors is reported as constant.

    Errors: a number of query positions that differs from the number of observations.
    Source: ordinary least squares; the layer as a confound follows the layer-residualised comparison of the closure
    paper.
    """

    name: ClassVar[str] = "residualize"
    on: Annotated[tuple[Literal["position", "layer"], ...], MinLen(1)] = field(
        default=("position", "layer"), metadata={"help": "what is regressed out"}
    )

    def __call__(self, activity: Activity, batch: Batch) -> Activity:
        values = activity.values.astype(np.float64)
        rounding = max(1e-12, 16 * float(np.finfo(activity.values.dtype).eps))
        layers, order = activity.units.site_of, activity.units.canonical
        shared = [self._position(activity, batch)] if "position" in self.on else []
        residuals = np.zeros_like(values)
        of_layer = [order[layers[order] == layer] for layer in range(len(activity.units.sites))]
        sums = [values[:, units].sum(axis=1) if len(units) > LARGE else None for units in of_layer]
        for unit in order:
            units, total = of_layer[layers[unit]], sums[layers[unit]]
            others: list[np.ndarray] = []
            if "layer" in self.on and total is not None:
                others = [(total - values[:, unit]) / (len(units) - 1)]
            elif "layer" in self.on and len(units) > 1:
                others = [values[:, units[units != unit]].mean(axis=1)]
            regressors = [r for r in [*shared, *others] if np.ptp(r) > rounding * np.abs(r).max()]
            residuals[:, unit] = _residual(values[:, unit], regressors, rounding)
        return replace(activity, values=residuals)

    def _position(self, activity: Activity, batch: Batch) -> Float[np.ndarray, " observations"]:
        position = batch.query.astype(np.float64) if activity.position is None else activity.position
        if len(position) != len(activity.values):
            raise HarnessError(
                f"transform residualize: there are {len(position)} query positions and {len(activity.values)} "
                "observations, because the observations of this signal are not the examples.",
                "Let the signal give their positions (Activity.position), or use 'transform.residualize.on=[layer]'.",
            )
        return position


def _residual(
    values: Float[np.ndarray, " observations"], regressors: list[np.ndarray], rounding: float
) -> Float[np.ndarray, " observations"]:
    """Least squares. Regressors are standardised: ``rounding``, the least relative singular value, needs one scale."""
    scaled = [(regressor - regressor.mean()) / regressor.std() for regressor in regressors]
    design = np.column_stack([np.ones(len(values)), *scaled])
    residual: Float[np.ndarray, " observations"] = values - design @ np.linalg.lstsq(design, values, rcond=rounding)[0]
    return residual if np.ptp(residual) > rounding * np.abs(values).max() else np.zeros_like(values)


@hookimpl
def harness_transforms() -> list[type[Residualize]]:
    return [Residualize]
