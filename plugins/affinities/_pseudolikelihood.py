"""Logistic regressions of every column on all the others, all at once: two matrix products per step for all of them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from harness import spread

# The numbers of scipy's L-BFGS-B as scikit-learn calls it, so that this takes its steps and stops where it stops.
MEMORY = 10  # steps that the curvature is learnt from
ENOUGH, FLATTER, NARROW = 1e-3, 0.9, 0.1  # of a line search: least decrease, largest slope left, least interval
TRIALS = 50  # per line search
STALLED = 64 * np.finfo(np.float64).eps  # relative decrease that ends a regression

BLOCK = 128  # regressions in one block: fewer make slower matrix products, more make none the faster


@dataclass(frozen=True)
class Regressions:
    """One regression per column: ``coefficients[i, j]`` is what column ``j`` counts for in that of column ``i``.

    ``margins`` are medians over observations of the target's sign times its log-odds; ``converged`` tells which
    stopped because they were done, not because of ``max_iter``, after how many ``iterations``.
    """

    coefficients: Float[np.ndarray, "units units"]
    intercepts: Float[np.ndarray, " units"]
    margins: Float[np.ndarray, " units"]
    converged: Bool[np.ndarray, " units"]
    iterations: Int[np.ndarray, " units"]


def regress_each(
    spins: Shaped[np.ndarray, "observations units"], l2: float, max_iter: int, tolerance: float = 1e-4
) -> Regressions:
    r"""Every column of ``spins``, each -1 and +1 at least once, by L2-regularised logistic regression on the others.

    .. math:: \min_{w, b}\ \frac1n \sum_e \log\bigl(1 + e^{-s_{ei} (b + \sum_{j \ne i} w_j s_{ej})}\bigr)
              + \frac{l_2}{2 n} \lVert w \rVert^2

    Each ends where no component of its gradient exceeds ``tolerance``, where rounding leaves nothing to gain, or after
    ``max_iter`` steps. The steps are those of scikit-learn's ``LogisticRegression(C=1 / l2)`` with the same tolerance,
    up to rounding; but its two products of a matrix with a vector, per step, observation and column, become two
    products of matrices, and trying out a step length takes none.

    Source: Liu & Nocedal 1989 (L-BFGS); Moré & Thuente 1994 (line search).
    """
    n, units = spins.shape
    design = np.ones((n, units + 1))
    design[:, :-1] = spins
    blocks = [np.arange(units)[start : start + BLOCK] for start in range(0, units, BLOCK)]
    solved = spread(lambda block: _Block(design, block, l2 / n).solve(max_iter, tolerance), blocks)
    weights, margins, converged, iterations = (np.concatenate(parts) for parts in zip(*solved, strict=True))
    return Regressions(weights[:, :-1], weights[:, -1], margins, converged, iterations)


Solved = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
Point = tuple[float, float, float]
"""Step length, value and slope."""


class _Block:
    """Some of the regressions, one per row of every array: L-BFGS on all that are not done yet."""

    def __init__(
        self, design: Float[np.ndarray, "observations inputs"], targets: Int[np.ndarray, " rows"], penalty: float
    ) -> None:
        self.design, self.targets = design, targets
        self.signs = np.ascontiguousarray(design[:, targets].T)
        self.penalty = np.full(design.shape[1], penalty)
        self.penalty[-1] = 0.0  # of the intercept
        self.weights = np.zeros((len(targets), design.shape[1]))
        self.margins = np.zeros_like(self.signs)
        self.room = [np.empty_like(self.margins) for _ in range(4)]  # made once: new pages cost more than sums on them
        self.wrong = np.empty_like(self.margins)
        self.values = _logistic(self.margins, self.wrong, self.room[0])
        self.gradients = self._gradients()
        self.steps: list[np.ndarray] = []  # of the last iterations, oldest first
        self.changes: list[np.ndarray] = []  # of the gradients, by these steps
        self.curvatures: list[np.ndarray] = []  # inverse; 0 where a step taught nothing
        self.scales = np.ones(len(targets))

    def solve(self, max_iter: int, tolerance: float) -> Solved:
        """Weights, median margins, whether each converged and after how many iterations."""
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
        """One step of every regression -> where it gained no more than rounding."""
        directions = self._directions()
        slopes = _dot(self.gradients, directions)
        lengths = np.ones(len(slopes)) if self.steps else 1 / np.linalg.norm(directions, axis=1)
        values, gradients = self.values, self.gradients
        bends = (self._go(directions, slopes, lengths) - slopes) * lengths
        self.gradients = self._gradients()
        self._learn(lengths[:, None] * directions, self.gradients - gradients, bends, -slopes * lengths)
        stalled: Bool[np.ndarray, " rows"] = values - self.values <= STALLED * values
        return stalled

    def _gradients(self) -> Float[np.ndarray, "rows inputs"]:
        misses = np.multiply(self.wrong, self.signs, out=self.room[0])
        gradients: Float[np.ndarray, "rows inputs"] = self.penalty * self.weights
        gradients -= misses @ self.design / len(self.design)
        gradients[np.arange(len(self.targets)), self.targets] = 0.0  # nobody predicts itself
        return gradients

    def _directions(self) -> Float[np.ndarray, "rows inputs"]:
        """Minus the gradients times the inverse curvature that was learnt: the two-loop recursion."""
        learnt = list(zip(self.steps, self.changes, self.curvatures, strict=True))
        directions = -self.gradients
        shares = []
        for step, change, curvature in reversed(learnt):
            shares.append(curvature * _dot(step, directions))
            directions -= shares[-1][:, None] * change
        directions *= self.scales[:, None]
        for (step, change, curvature), share in zip(learnt, reversed(shares), strict=True):
            directions += (share - curvature * _dot(change, directions))[:, None] * step
        return directions

    def _learn(self, steps: np.ndarray, changes: np.ndarray, bends: np.ndarray, drops: np.ndarray) -> None:
        """Remember a step and the change of the gradient along it, where the change is more than rounding."""
        teaches = bends > np.finfo(np.float64).eps * drops
        bends = np.where(teaches, bends, 1.0)
        self.scales = np.where(teaches, bends / np.where(teaches, _dot(changes, changes), 1.0), self.scales)
        self.steps = [*self.steps, steps][-MEMORY:]
        self.changes = [*self.changes, changes][-MEMORY:]
        self.curvatures = [*self.curvatures, teaches / bends][-MEMORY:]

    def _go(self, directions: np.ndarray, slopes: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        """Search how far to go, from ``lengths`` on, which are overwritten, and go there -> slopes there.

        Margins are linear in the weights: a trial needs no product with the design.
        """
        drifts, *room = self.room
        np.matmul(directions, self.design.T, out=drifts)
        drifts *= self.signs
        along, bend = _dot(self.penalty * self.weights, directions), _dot(self.penalty * directions, directions)
        penalties = _dot(self.penalty * self.weights, self.weights) / 2
        begun = zip(self.values.tolist(), slopes.tolist(), lengths.tolist(), strict=True)
        searches = [_Search(*start) for start in begun]
        values, ends = np.empty_like(slopes), np.empty_like(slopes)
        rows: np.ndarray | slice = slice(None)  # those that still search; all of them need not be copied
        searching = list(range(len(lengths)))
        while searching:
            tried, wrong, spare = (buffer[: len(searching)] for buffer in room)
            far, drift = lengths[rows], drifts[rows]
            np.multiply(far[:, None], drift, out=tried)
            tried += self.margins[rows]
            losses = _logistic(tried, wrong, spare)
            values[rows] = losses + penalties[rows] + far * (along[rows] + far * bend[rows] / 2)
            ends[rows] = along[rows] + far * bend[rows] - _dot(wrong, drift) / len(self.design)
            self.wrong[rows] = wrong
            found = zip(searching, values[rows].tolist(), ends[rows].tolist(), strict=True)
            searching = [row for row, value, slope in found if not searches[row].ends(value, slope)]
            rows = np.array(searching, dtype=int)
            lengths[rows] = [searches[row].length for row in searching]
        self.values = values
        self.weights += lengths[:, None] * directions
        self.margins += np.multiply(lengths[:, None], drifts, out=drifts)
        return ends

    def _keep(self, rows: Bool[np.ndarray, " rows"]) -> None:
        """Go on with these regressions."""
        for name in ("targets", "signs", "weights", "margins", "values", "wrong", "gradients", "scales"):
            setattr(self, name, getattr(self, name)[rows])
        for name in ("steps", "changes", "curvatures"):
            setattr(self, name, [past[rows] for past in getattr(self, name)])
        self.room = [buffer[: len(self.targets)] for buffer in self.room]


class _Search:
    """How far to go along a line on which a convex function starts at ``value`` with a ``slope`` below 0.

    A length is accepted where both value and slope have fallen enough. ``best`` is the lowest point so far; ``other``
    is, once it is known (``enclosed``), a point on the other side of the minimum.
    """

    def __init__(self, value: float, slope: float, length: float) -> None:
        self.value, self.slope, self.length = value, slope, length
        self.best = self.other = (0.0, value, slope)
        self.low, self.high = 0.0, 5 * length
        self.enclosed, self.last, self.trials = False, False, 0

    def ends(self, value: float, slope: float) -> bool:
        """Told what is found at ``length``: whether that is where to go. If not, ``length`` is the next one to try."""
        trial = (self.length, value, slope)
        enough = self.value + ENOUGH * self.slope * self.length
        if self.last or (value <= enough and abs(slope) <= -FLATTER * self.slope):
            return True
        # Lower, but by too little for so long a way: then the line of what is enough is what it has to get below.
        tilt = ENOUGH * self.slope if enough < value <= self.best[1] else 0.0
        length = self._next(trial, tilt)
        if self.enclosed:
            self.low, self.high = sorted((self.best[0], self.other[0]))
        else:
            self.high = length + 4 * (length - self.best[0])
        self.trials += 1
        wide = self.low < length < self.high and self.high - self.low > NARROW * self.high
        self.last = (self.enclosed and not wide) or self.trials == TRIALS  # rounding: no better than the best
        self.length = self.best[0] if self.last else length
        return False

    def _next(self, trial: Point, tilt: float) -> float:
        """The next length, by a cubic and by a secant or parabola through the best point and this one."""
        (start, f, df), (end, g, dg) = ((x, y - tilt * x, slope - tilt) for x, y, slope in (self.best, trial))
        if g > f:  # too far, and higher
            cubic = _cubic(start, f, df, end, g, dg)
            parabola = start + df / ((f - g) / (end - start) + df) / 2 * (end - start)
            self.other, self.enclosed = trial, True
            return cubic if abs(cubic - start) < abs(parabola - start) else (cubic + parabola) / 2
        if df * dg < 0:  # too far, but lower
            cubic, secant = _cubic(start, f, df, end, g, dg), _secant(start, df, end, dg)
            self.best, self.other, self.enclosed = trial, self.best, True
            return max(cubic, secant, key=lambda length: abs(length - end))
        self.best = trial  # not far enough
        bound = self.high if end > start else self.low
        lengths = [bound]
        if abs(dg) < abs(df):  # as in exact arithmetic it always is
            cubic = _cubic(start, f, df, end, g, dg)
            lengths = [cubic if (cubic - end) * (end - start) > 0 else bound, _secant(start, df, end, dg)]
        if self.enclosed:
            return min(*lengths, end + 0.66 * (self.other[0] - end), key=lambda length: abs(length - end))
        return min(max(lengths), self.high)


def _cubic(start: float, f: float, df: float, end: float, g: float, dg: float) -> float:
    """Where the cubic with these values and slopes at two points has its minimum."""
    theta = 3 * (f - g) / (end - start) + df + dg
    root = math.copysign(math.sqrt(max(theta * theta - df * dg, 0.0)), end - start)
    return end - (end - start) * (dg + root - theta) / (dg - df + 2 * root)


def _secant(start: float, df: float, end: float, dg: float) -> float:
    return end + dg / (dg - df) * (start - end)


def _logistic(
    margins: Float[np.ndarray, "rows observations"],
    wrong: Float[np.ndarray, "rows observations"],
    room: Float[np.ndarray, "rows observations"],
) -> Float[np.ndarray, " rows"]:
    """Mean loss of each row; the probability of the sign that was not seen is written to ``wrong``."""
    np.maximum(margins, 0.0, out=wrong)
    np.negative(wrong, out=wrong)
    np.exp(wrong, out=wrong)  # the larger of the two odds is 1 ...
    np.abs(margins, out=room)
    np.negative(room, out=room)
    np.exp(room, out=room)  # ... and this one the smaller, so that neither overflows
    losses: Float[np.ndarray, " rows"] = np.log1p(room).mean(axis=1) - np.minimum(margins, 0.0).mean(axis=1)
    room += 1
    wrong /= room
    return losses


def _dot(a: np.ndarray, b: np.ndarray) -> Float[np.ndarray, " rows"]:
    products: Float[np.ndarray, " rows"] = np.einsum("ij,ij->i", a, b)
    return products
