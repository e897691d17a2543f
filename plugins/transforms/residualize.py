"""Activity without what the query position and the rest of the layer account for."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Float

from harness import Activity, Batch, HarnessError, hookimpl


@dataclass(frozen=True)
class Residualize:
    r"""What is left of a unit's activity when query position and the other units of its layer have been regressed out.

    .. math:: r_{e,i} = a_{e,i} - \hat\alpha_i - \hat\beta_i q_e - \hat\gamma_i m_{e,i}, \qquad
              m_{e,i} = \frac{1}{|L_i| - 1} \sum_{j \in L_i, j \ne i} a_{e,j}

    Least squares, jointly, per unit; :math:`L_i` are the units of its layer. Both regressors make units alike that have
    nothing to do with each other: a diffuse head's attention is nearly a function of how long the context is, and a
    layer rises and falls together.

    The layer's mean is that of the *other* units: a mean that contains the unit would take its own signal out of it.
    A unit that is alone in its layer has no such regressor, and one that never changes (all queries at one position) is
    left out. In a layer of few units the residuals oppose each other: of two units, each is what the other is not.

    Input: activity [observations, units], the batch's query positions (or the activity's own). Output: activity of the
    same shape and unit, of mean zero. What is zero up to the rounding of the input's precision becomes zero: a unit
    that is a linear function of the regressors is then seen, and named, as constant.

    Errors: nothing to regress on; as many query positions as there are observations are needed.
    Source: ordinary least squares; the layer, as a confound, after the closure paper's layer-residualised comparison.
    """

    name: ClassVar[str] = "residualize"
    on: tuple[Literal["position", "layer"], ...] = field(
        default=("position", "layer"), metadata={"help": "what is taken out"}
    )

    def __post_init__(self) -> None:
        if not self.on:
            raise HarnessError(
                "transform.residualize.on=[]: nothing would be taken out.", "Name position, layer or both, or drop it."
            )

    def __call__(self, activity: Activity, batch: Batch) -> Activity:
        values = activity.values.astype(np.float64)
        rounding = max(1e-12, 16 * float(np.finfo(activity.values.dtype).eps))
        layers, order = activity.units.layers, activity.units.canonical
        shared = [self._position(activity, batch)] if "position" in self.on else []
        residuals = np.zeros_like(values)
        for unit in order:
            mates = order[(layers[order] == layers[unit]) & (order != unit)]
            others = [values[:, mates].mean(axis=1)] if "layer" in self.on and len(mates) else []
            regressors = [r for r in [*shared, *others] if np.ptp(r) > rounding * np.abs(r).max()]
            residuals[:, unit] = _residual(values[:, unit], regressors, rounding)
        return replace(activity, values=residuals)

    def _position(self, activity: Activity, batch: Batch) -> Float[np.ndarray, " observations"]:
        position = batch.query.astype(np.float64) if activity.position is None else activity.position
        if len(position) != len(activity.values):
            raise HarnessError(
                f"transform residualize: {len(position)} query positions for {len(activity.values)} observations.",
                "Where observations are not the examples, the signal has to give their positions; or leave positions "
                "in: 'transform.residualize.on=[layer]'",
            )
        return position


def _residual(
    values: Float[np.ndarray, " observations"], regressors: list[np.ndarray], rounding: float
) -> Float[np.ndarray, " observations"]:
    """Regressors on one scale, so that ``rounding`` tells what one of them adds to the other from its last digits."""
    scaled = [(regressor - regressor.mean()) / regressor.std() for regressor in regressors]
    design = np.column_stack([np.ones(len(values)), *scaled])
    residual: Float[np.ndarray, " observations"] = values - design @ np.linalg.lstsq(design, values, rcond=rounding)[0]
    return residual if np.ptp(residual) > rounding * np.abs(values).max() else np.zeros_like(values)


@hookimpl
def harness_transforms() -> list[type[Residualize]]:
    return [Residualize]
