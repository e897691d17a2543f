"""How the number of directions that a head's outputs span develops in training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

import numpy as np
from annotated_types import Gt
from harness_plugins.signals.participation_ratio import participation_ratio
from jaxtyping import Float

from harness import Activity, HarnessError, History, Rows, Signal, Source, hookimpl

Axis = Float[np.ndarray, " checkpoints"]
Trajectories = Float[np.ndarray, "checkpoints units"]
Summary = Float[np.ndarray, " units"]


@dataclass(frozen=True)
class PRTrajectory(Signal):
    r"""A unit's participation ratio at every checkpoint; its score is a summary of this trajectory.

    .. math:: \text{integral} = \int \max(\mathrm{PR} - 1, 0)\, dx, \quad
              \text{spread} = \max_t \mathrm{PR}_t - \min_t \mathrm{PR}_t, \quad
              \text{maximum} = \max_t \mathrm{PR}_t, \quad
              \text{rate} = \max_t \frac{\mathrm{PR}_{t+1} - \mathrm{PR}_t}{x_{t+1} - x_t}

    PR is that of ``participation_ratio``, over all examples. The integral is by the trapezoidal rule. x is the training
    step, or its logarithm (``axis=log_step``): :math:`x = \ln \max(\text{step}, \text{floor})`. Steps up to the floor
    share one x, so that they add nothing to an integral or a rate. Log tokens are log steps: a constant number of
    tokens per step moves x and changes no summary; the published cut at 1e9 tokens of Pythia is ``floor=476.8``.

    PR does not depend on scale: a head that writes almost nothing can have a PR of 5. ``weighted`` shrinks PR towards
    1 by what the unit writes at a checkpoint, relative to the unit that writes most there:

    .. math:: \mathrm{PR}'_{t,u} = 1 + (\mathrm{PR}_{t,u} - 1)\,
              \frac{\lVert X_{t,u} \rVert}{\max_v \lVert X_{t,v} \rVert}

    Input: head outputs at the query [examples, heads, head_dim], at every checkpoint. Output: activity [checkpoints,
    units] in directions; scores [units], in directions, directions times steps (integral), or directions per step
    (rate). The traps: PR is high at initialisation, falls, and rises again, so that spread, and integrals over the
    logarithm, reward initialisation; heads downstream echo what an earlier head retrieved.

    Errors: a subject with fewer than two checkpoints (after the floor).
    Source: probe-circuits paper (Xu 2026), as its scripts compute it; the weight is an addition here.
    """

    name: ClassVar[str] = "pr_trajectory"
    source: ClassVar[Source] = "head_output"
    summary: Literal["integral", "spread", "maximum", "rate"] = field(
        default="integral", metadata={"help": "the score of a trajectory"}
    )
    axis: Literal["step", "log_step"] = field(default="step", metadata={"help": "x of integral and rate"})
    floor: Annotated[float, Gt(0)] = field(
        default=1.0, metadata={"help": "smallest step of axis=log_step: earlier ones count as this one"}
    )
    weighted: bool = field(default=False, metadata={"help": "shrink PR by how little a unit writes"})

    def read(self, rows: Rows) -> Float[np.ndarray, "examples heads head_dim"]:
        return rows.values

    def __call__(self, history: History) -> Activity:  # type: ignore[override]  # it asks for history, not recording
        x = place_of(history.steps, self.axis, self.floor)
        if len(set(x.tolist())) < 2:
            raise HarnessError(
                f"signal pr_trajectory: checkpoints at steps {list(history.steps)} have no two different places on its "
                "axis, so there is no trajectory.",
                "Use a subject with more checkpoints, or a smaller signal.floor.",
            )
        ratios = np.array([self._ratios(recording.readings["signal"]) for recording in history.recordings])
        scores = SUMMARIES[self.summary](x, ratios)
        query = np.full(len(x), history.final.batch.query.mean())
        return Activity(ratios, history.final.units, own_scores=scores, position=query)

    def _ratios(self, outputs: Float[np.ndarray, "examples units head_dim"]) -> Float[np.ndarray, " units"]:
        """PR of every unit at one checkpoint."""
        by_unit = np.moveaxis(outputs.astype(np.float64), 1, 0)
        ratios: Float[np.ndarray, " units"] = participation_ratio(by_unit)
        if self.weighted:
            norms = np.linalg.norm(by_unit, axis=(1, 2))
            ratios = 1 + (ratios - 1) * norms / max(norms.max(), np.finfo(np.float64).tiny)
        return ratios


def place_of(steps: Sequence[int], axis: str, floor: float) -> Axis:
    """The places of checkpoints on an axis."""
    x = np.array(steps, dtype=np.float64)
    return np.log(np.maximum(x, floor)) if axis == "log_step" else x


def integral(x: Axis, ratios: Trajectories) -> Summary:
    """Trapezoidal integral of max(PR - 1, 0)."""
    above = np.maximum(ratios - 1, 0)
    area: Summary = (np.diff(x)[:, None] * (above[1:] + above[:-1]) / 2).sum(axis=0)
    return area


def spread(_: Axis, ratios: Trajectories) -> Summary:
    """Largest minus smallest PR."""
    return np.asarray(ratios.max(axis=0) - ratios.min(axis=0))


def maximum(_: Axis, ratios: Trajectories) -> Summary:
    """Largest PR."""
    return np.asarray(ratios.max(axis=0))


def rate(x: Axis, ratios: Trajectories) -> Summary:
    """Largest slope between two checkpoints that follow each other; those at the same place have none."""
    apart = np.diff(x) > 0
    return np.asarray((np.diff(ratios, axis=0)[apart] / np.diff(x)[apart, None]).max(axis=0))


SUMMARIES: Mapping[str, Callable[[Axis, Trajectories], Summary]] = {
    "integral": integral,
    "spread": spread,
    "maximum": maximum,
    "rate": rate,
}


@hookimpl
def harness_signals() -> list[type[PRTrajectory]]:
    return [PRTrajectory]
