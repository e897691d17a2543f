"""Rank correlation of two figures of the same units, with others held fixed."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

LEVEL = 0.95


@dataclass(frozen=True)
class Association:
    r"""Spearman's correlation of ``n`` units, or its partial form with ``held`` figures held fixed.

    .. math:: r = \operatorname{corr}(\text{residuals of ranks}), \qquad
              \operatorname{atanh} r \pm 1.96 \sqrt{\frac{1 + r^2 / 2}{n - 3 - q}}, \qquad
              t = r \sqrt{\frac{n - 2 - q}{1 - r^2}}

    Residuals are those of a linear regression on the ranks of the q figures held fixed. ``p``: two-sided, from t with
    n - 2 - q degrees of freedom. Units of one model are no random sample: the interval treats them as one.

    None: fewer than 5 + q units, or a figure that is constant (given the others).
    Source: Bonett & Wright 2000 (interval); Kim 2015 (partial rank correlation).
    """

    rho: float
    interval: tuple[float, float]
    p: float
    n: int
    held: int

    @classmethod
    def of(
        cls, first: Float[np.ndarray, " units"], second: Float[np.ndarray, " units"], *held: Float[np.ndarray, " units"]
    ) -> Association | None:
        """The association of two figures with ``held`` fixed."""
        from scipy.stats import norm, rankdata, t

        n, q = len(first), len(held)
        if n < 5 + q:
            return None
        design = np.column_stack([np.ones(n), *map(rankdata, held)])
        x, y = (ranks - design @ np.linalg.lstsq(design, ranks)[0] for ranks in (rankdata(first), rankdata(second)))
        size = float(np.linalg.norm(x) * np.linalg.norm(y))
        if min(np.linalg.norm(x), np.linalg.norm(y)) < 1e-9 * n:
            return None
        rho = float(np.clip(x @ y / size, -1, 1))
        if abs(rho) > 1 - 1e-12:
            return cls(math.copysign(1.0, rho), (math.copysign(1.0, rho),) * 2, 0.0, n, q)
        error = float(norm.ppf((1 + LEVEL) / 2)) * math.sqrt((1 + rho**2 / 2) / (n - 3 - q))
        p = float(2 * t.sf(abs(rho) * math.sqrt((n - 2 - q) / (1 - rho**2)), n - 2 - q))
        return cls(rho, (math.tanh(math.atanh(rho) - error), math.tanh(math.atanh(rho) + error)), p, n, q)

    @property
    def text(self) -> str:
        """The correlation, its interval and p."""
        low, high = self.interval
        p = f"p {self.p:.3f}" if self.p >= 0.0005 else "p under .001"
        return f"{self.rho:+.2f} [{low:+.2f}, {high:+.2f}], {p}"
