"""L2-regularised logistic regressions of every column on all others, solved together with L-BFGS."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from harness import spread

# The constants of scipy's L-BFGS-B as scikit-learn calls it: the steps and the stopping point are then the same.
MEMORY = 10  # past steps from which the curvature is estimated
DECREASE, FLATNESS, INTERVAL = 1e-3, 0.9, 0.1  # line search: least decrease, largest slope left, least interval
TRIALS = 50  # per line search
STALLED = 64 * np.finfo(np.float64).eps  # a regression ends when its relative decrease is at most this

BLOCK = 128  # regressions solved together: with fewer, matrix products are slower; more do not speed them up


@dataclass(frozen=True)
class Regressions:
    """One regression per column.

    ``coefficients[i, j]``: the coefficient of column ``j`` in the regression of column ``i``. ``margins``: the median,
    over observations, of the target's sign times its log-odds. ``converged``: whether the regression ended for another
    reason than ``max_iter``. ``iterations``: the number of its steps.
    """

    coefficients: Float[np.ndarray, "units units"]
    intercepts: Float[np.ndarray, " units"]
    margins: Float[np.ndarray, " units"]
    converged: Bool[np.ndarray, " units"]
    iterations: Int[np.ndarray, " units"]


def regress_each(
    spins: Shaped[np.ndarray, "observations units"],
    l2: float,
    max_iter: int,
    tolerance: float = 1e-4,
    covariates: Shaped[np.ndarray, "observations covariates"] | None = None,
) -> Regressions:
    r"""L2-regularised logistic regression of every column of ``spins`` on all others, and on all covariates c.

    .. math:: \min_{w, v, b}\ \frac1n \sum_e \log(1 + e^{-s_{ei} \eta_{ei}})
              + \frac{l_2}{2 n} \bigl(\lVert w \rVert^2 + \lVert v \rVert^2\bigr), \qquad
              \eta_{ei} = b + \textstyle\sum_{j \ne i} w_j s_{ej} + v \cdot c_e

    Each column must contain both -1 and +1. A regression ends when no component of its gradient exceeds ``tolerance``,
    when the decrease is no larger than rounding, or after ``max_iter`` steps. Up to rounding, the steps are those of
    scikit-learn's ``LogisticRegression(C=1 / l2)`` with the same tolerance. All columns share two matrix products per
    step, where scikit-learn needs two matrix-vector products per column; trial step lengths need no product.

    Source: Liu & Nocedal 1989 (L-BFGS); Moré & Thuente 1994 (line search).
    """
    n, units = spins.shape
    others = np.empty((n, 0)) if covariates is None else covariates
    design = np.concatenate([spins, others, np.ones((n, 1))], axis=1, dtype=np.float64)
    blocks = [np.arange(units)[start : start + BLOCK] for start in range(0, units, BLOCK)]
    solutions = spread(lambda block: _Block(design, block, l2 / n).solve(max_iter, tolerance), blocks)
    weights, margins, converged, iterations = (np.concatenate(parts) for parts in zip(*solutions, strict=True))
    return Regressions(weights[:, :units], weights[:, -1], margins, converged, iterations)


Solution = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
Point = tuple[float, float, float]
"""Step length, value and slope."""


class _Block:
    """L-BFGS for some of the regressions. Each row of every array is one regression that has not ended yet."""

    def __init__(
        self, design: Float[np.ndarray, "observations inputs"], targets: Int[np.ndarray, " rows"], penalty: float
    ) -> None:
        self.design, self.targets = design, targets
        self.signs = np.ascontiguousarray(design[:, targets].T)
        self.penalty = np.full(design.shape[1], penalty)
        self.penalty[-1] = 0.0  # the intercept
        self.weights = np.zeros((len(targets), design.shape[1]))
        self.margins = np.zeros_like(self.signs)
        # Allocated once: allocating new pages costs more than the sums that are written to them.
        self.buffers = [np.empty_like(self.margins) for _ in range(4)]
        self.errors = np.empty_like(self.margins)  # the predicted probability of the wrong sign
        self.values = _logistic(self.margins, self.errors, self.buffers[0])
        self.gradients = self._gradients()
        self.steps: list[np.ndarray] = []  # the last iterations, oldest first
        self.changes: list[np.ndarray] = []  # the changes of the gradient along these steps
        self.curvatures: list[np.ndarray] = []  # inverse curvature along these steps; 0: the step is not used
        self.scales = np.ones(len(targets))

    def solve(self, max_iter: int, tolerance: float) -> Solution:
        """Weights, median margins, whether each regression converged, and its number of iterations."""
        rows = np.arange(len(self.targets))
        weights, margins = np.zeros_like(self.weights), np.zeros(len(rows))
        converged, iterations = np.zeros(len(rows), dtype=bool), np.zeros(len(rows), dtype=int)
        stalled = np.zeros(len(rows), dtype=bool)
        for iteration in range(max_iter + 1):
            done = stalled | (np.abs(self.gradients).max(axis=1) <= tolerance)
            ends = done | (iteration == max_iter)
            if ends.any():
                ended = rows[ends]
                weights[ended], margins[ended] = self.weights[ends], np.median(self.margins[ends], axis=1)
                converged[ended], iterations[ended] = done[ends], iteration
                rows = rows[~ends]
                self._keep(~ends)
            if not len(rows):
                break
            stalled = self._iterate()
        return weights, margins, converged, iterations

    def _iterate(self) -> Bool[np.ndarray, " rows"]:
        """One step of every regression. Returns which of them decreased by no more than rounding."""
        directions = self._directions()
        slopes = _dot(self.gradients, directions)
        lengths = np.ones(len(slopes)) if self.steps else 1 / np.linalg.norm(directions, axis=1)
        values, gradients = self.values, self.gradients
        bends = (self._move(directions, slopes, lengths) - slopes) * lengths
        self.gradients = self._gradients()
        self._remember(lengths[:, None] * directions, self.gradients - gradients, bends, -slopes * lengths)
        stalled: Bool[np.ndarray, " rows"] = values - self.values <= STALLED * values
        return stalled

    def _gradients(self) -> Float[np.ndarray, "rows inputs"]:
        signed_errors = np.multiply(self.errors, self.signs, out=self.buffers[0])
        gradients: Float[np.ndarray, "rows inputs"] = self.penalty * self.weights
        gradients -= signed_errors @ self.design / len(self.design)
        gradients[np.arange(len(self.targets)), self.targets] = 0.0  # a column does not predict itself
        return gradients

    def _directions(self) -> Float[np.ndarray, "rows inputs"]:
        """Minus the estimated inverse Hessian times the gradient, by the two-loop recursion."""
        history = list(zip(self.steps, self.changes, self.curvatures, strict=True))
        directions = -self.gradients
        projections = []
        for step, change, curvature in reversed(history):
            projections.append(curvature * _dot(step, directions))
            directions -= projections[-1][:, None] * change
        directions *= self.scales[:, None]
        for (step, change, curvature), projection in zip(history, reversed(projections), strict=True):
            directions += (projection - curvature * _dot(change, directions))[:, None] * step
        return directions

    def _remember(self, steps: np.ndarray, changes: np.ndarray, bends: np.ndarray, drops: np.ndarray) -> None:
        """Keep a step and its change of the gradient, where the change is larger than rounding and its square not 0."""
        squares = _dot(changes, changes)
        usable = (bends > np.finfo(np.float64).eps * drops) & (squares > 0)
        bends = np.where(usable, bends, 1.0)
        self.scales = np.where(usable, bends / np.where(usable, squares, 1.0), self.scales)
        self.steps = [*self.steps, steps][-MEMORY:]
        self.changes = [*self.changes, changes][-MEMORY:]
        self.curvatures = [*self.curvatures, usable / bends][-MEMORY:]

    def _move(self, directions: np.ndarray, slopes: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Line searches along the directions, then the steps. Returns the slopes at the new points.

        The search starts with ``lengths``, which are overwritten by the final lengths. Margins are linear in the
        weights, so that a trial needs no product with the design.
        """
        margin_slopes, *buffers = self.buffers
        np.matmul(directions, self.design.T, out=margin_slopes)
        margin_slopes *= self.signs
        penalty_slopes = _dot(self.penalty * self.weights, directions)
        penalty_bends = _dot(self.penalty * directions, directions)
        penalties = _dot(self.penalty * self.weights, self.weights) / 2
        starts = zip(self.values.tolist(), slopes.tolist(), lengths.tolist(), strict=True)
        searches = [_Search(*start) for start in starts]
        values, new_slopes = np.empty_like(slopes), np.empty_like(slopes)
        rows: np.ndarray | slice = slice(None)  # rows still searching; a slice avoids a copy while all of them are
        searching = list(range(len(lengths)))
        while searching:
            margins, errors, spare = (buffer[: len(searching)] for buffer in buffers)
            trial, trial_slopes = lengths[rows], margin_slopes[rows]
            np.multiply(trial[:, None], trial_slopes, out=margins)
            margins += self.margins[rows]
            losses = _logistic(margins, errors, spare)
            values[rows] = losses + penalties[rows] + trial * (penalty_slopes[rows] + trial * penalty_bends[rows] / 2)
            loss_slopes = _dot(errors, trial_slopes) / len(self.design)
            new_slopes[rows] = penalty_slopes[rows] + trial * penalty_bends[rows] - loss_slopes
            self.errors[rows] = errors
            results = zip(searching, values[rows].tolist(), new_slopes[rows].tolist(), strict=True)
            searching = [row for row, value, slope in results if not searches[row].accepts(value, slope)]
            rows = np.array(searching, dtype=int)
            lengths[rows] = [searches[row].length for row in searching]
        self.values = values
        self.weights += lengths[:, None] * directions
        self.margins += np.multiply(lengths[:, None], margin_slopes, out=margin_slopes)
        return new_slopes

    def _keep(self, rows: Bool[np.ndarray, " rows"]) -> None:
        """Continue with these regressions only."""
        for name in ("targets", "signs", "weights", "margins", "values", "errors", "gradients", "scales"):
            setattr(self, name, getattr(self, name)[rows])
        for name in ("steps", "changes", "curvatures"):
            setattr(self, name, [past[rows] for past in getattr(self, name)])
        self.buffers = [buffer[: len(self.targets)] for buffer in self.buffers]


class _Search:
    """A step length for a convex function along a line, from ``value`` and a negative ``slope`` at length 0.

    A length is accepted if value and slope have decreased enough. ``best`` is the lowest point so far. Once
    ``bracketed``, ``other`` is a point on the other side of the minimum.
    """

    def __init__(self, value: float, slope: float, length: float) -> None:
        self.value, self.slope, self.length = value, slope, length
        self.best = self.other = (0.0, value, slope)
        self.low, self.high = 0.0, 5 * length
        self.bracketed, self.last, self.trials = False, False, 0

    def accepts(self, value: float, slope: float) -> bool:
        """Whether to stop at ``length``, given value and slope there. If not, ``length`` becomes the next trial."""
        trial = (self.length, value, slope)
        sufficient = self.value + DECREASE * self.slope * self.length
        if self.last or (value <= sufficient and abs(slope) <= -FLATNESS * self.slope):
            return True
        # A new lowest value that is not a sufficient decrease: search the minimum relative to the line of sufficient
        # decrease instead, because an acceptable length is there.
        tilt = DECREASE * self.slope if sufficient < value <= self.best[1] else 0.0
        length = self._next(trial, tilt)
        if self.bracketed:
            self.low, self.high = sorted((self.best[0], self.other[0]))
        else:
            self.high = length + 4 * (length - self.best[0])
        self.trials += 1
        wide = self.low < length < self.high and self.high - self.low > INTERVAL * self.high
        self.last = (self.bracketed and not wide) or self.trials == TRIALS  # only rounding differs from the best point
        self.length = self.best[0] if self.last else length
        return False

    def _next(self, trial: Point, tilt: float) -> float:
        """The next length, from a cubic and a secant or parabola through the best point and this one."""
        (start, f, df), (end, g, dg) = ((x, y - tilt * x, slope - tilt) for x, y, slope in (self.best, trial))
        if g > f:  # beyond the minimum, and higher
            cubic = _cubic(start, f, df, end, g, dg)
            parabola = start + df / ((f - g) / (end - start) + df) / 2 * (end - start)
            self.other, self.bracketed = trial, True
            return cubic if abs(cubic - start) < abs(parabola - start) else (cubic + parabola) / 2
        if df * dg < 0:  # beyond the minimum, but lower
            cubic, secant = _cubic(start, f, df, end, g, dg), _secant(start, df, end, dg)
            self.best, self.other, self.bracketed = trial, self.best, True
            return max(cubic, secant, key=lambda length: abs(length - end))
        self.best = trial  # before the minimum
        bound = self.high if end > start else self.low
        lengths = [bound]
        if abs(dg) < abs(df):  # in exact arithmetic always
            cubic = _cubic(start, f, df, end, g, dg)
            lengths = [cubic if (cubic - end) * (end - start) > 0 else bound, _secant(start, df, end, dg)]
        if self.bracketed:
            return min(*lengths, end + 0.66 * (self.other[0] - end), key=lambda length: abs(length - end))
        return min(max(lengths), self.high)


def _cubic(start: float, f: float, df: float, end: float, g: float, dg: float) -> float:
    """The minimum of the cubic with these values and slopes at two points."""
    theta = 3 * (f - g) / (end - start) + df + dg
    root = math.copysign(math.sqrt(max(theta * theta - df * dg, 0.0)), end - start)
    return end - (end - start) * (dg + root - theta) / (dg - df + 2 * root)


def _secant(start: float, df: float, end: float, dg: float) -> float:
    return end + dg / (dg - df) * (start - end)


def _logistic(
    margins: Float[np.ndarray, "rows observations"],
    errors: Float[np.ndarray, "rows observations"],
    buffer: Float[np.ndarray, "rows observations"],
) -> Float[np.ndarray, " rows"]:
    """Mean loss of each row. ``errors`` is overwritten with the probability of the sign that was not observed."""
    np.maximum(margins, 0.0, out=errors)
    np.negative(errors, out=errors)
    np.exp(errors, out=errors)  # scaled so that the larger of the two odds is 1 ...
    np.abs(margins, out=buffer)
    np.negative(buffer, out=buffer)
    np.exp(buffer, out=buffer)  # ... and this is the smaller one: neither overflows
    losses: Float[np.ndarray, " rows"] = np.log1p(buffer).mean(axis=1) - np.minimum(margins, 0.0).mean(axis=1)
    buffer += 1
    errors /= buffer
    return losses


def _dot(a: np.ndarray, b: np.ndarray) -> Float[np.ndarray, " rows"]:
    products: Float[np.ndarray, " rows"] = np.einsum("ij,ij->i", a, b)
    return products
