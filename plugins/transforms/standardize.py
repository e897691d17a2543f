"""Every unit on the same scale."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from harness import Activity, Transform, hookimpl


@dataclass(frozen=True)
class Standardize(Transform):
    r"""Each unit's activity, shifted and scaled to mean 0 and standard deviation 1.

    .. math:: z_{e,i} = \frac{a_{e,i} - \bar a_i}{\sigma_i}, \qquad
              \sigma_i^2 = \tfrac{1}{n} \textstyle\sum_e (a_{e,i} - \bar a_i)^2

    Input: activity [observations, units]. Output: activity of the same shape, in standard deviations.
    A unit whose activity is constant up to rounding (:math:`\sigma_i \le 10^{-12} \max(1, |\bar a_i|)`) becomes zero
    everywhere, so that later stages report it as constant.
    Source: standard scores.
    """

    name: ClassVar[str] = "standardize"

    def __call__(self, activity: Activity) -> Activity:
        values = activity.values.astype(np.float64)
        mean, spread = values.mean(axis=0), values.std(axis=0)
        varies = spread > 1e-12 * np.maximum(1.0, np.abs(mean))
        return replace(activity, values=np.where(varies, values - mean, 0.0) / np.where(varies, spread, 1.0))


@hookimpl
def harness_transforms() -> list[type[Standardize]]:
    return [Standardize]
