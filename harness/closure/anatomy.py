"""The inside of a group: how its units interact, which of them are dispensable, and when the group is active."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, Float, Real

from harness.closure.statistics import bootstrap_means, inflated, p_value, z_score
from harness.util.errors import HarnessError

ActiveRule = Literal["any", "all", "most_selective"]


@dataclass(frozen=True)
class Interaction:
    """The group's damage beyond the sum of its units', and its 95 % interval over examples; see :func:`interaction`."""

    value: float
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class OnInput:
    """The effect of ablation on the ``n`` examples where the group is active.

    ``delta``: mean change there. ``controls``: each control group's mean change on the same examples. ``z``, ``p``:
    delta compared with the controls. ``off_input``: mean change on the other examples (None: there are none).
    ``leakage``: ``off_input / delta``, about 0 for a mechanism without effect where it is not active. All are None
    where the group is never active.
    """

    n: int
    delta: float | None
    controls: tuple[float, ...]
    z: float | None
    p: float | None
    off_input: float | None
    leakage: float | None


def interaction(
    group: Float[np.ndarray, " examples"], parts: Float[np.ndarray, "parts examples"], seed: int
) -> Interaction | None:
    r"""How much damage the group's ablation does beyond the sum of its parts' ablations.

    .. math:: I = \frac{d(G) - \sum_{u \in G} d(u)}{(g - 1)\, d(G)}

    -1: a serial chain (each part alone does all the damage). 0: independent damage. Above 0: the parts back each other
    up; :math:`1/(g-1)` where each alone has no effect. None for a single part, or where the group has no effect on
    average. The interval resamples examples, the same ones for the group and its parts. It is None where the group's
    effect is zero or has the opposite sign in some resample: the ratio then has no bounds.

    Input: changes of a metric per example, of the group and of every part alone. Output: dimensionless.
    """
    g, whole = len(parts), _mean(group)
    if g < 2 or whole == 0:
        return None
    value = (whole - float(parts.mean(axis=1).sum())) / whole / (g - 1)
    means = bootstrap_means(np.stack([group, parts.sum(axis=0)]), seed)
    if means is None or (np.sign(means[0]) != np.sign(whole)).any():
        return Interaction(value, None)
    low, high = np.percentile((means[0] - means[1]) / means[0] / (g - 1), [2.5, 97.5])
    return Interaction(value, (float(low), float(high)))


def leave_one_out(
    group: Float[np.ndarray, " examples"], without: Float[np.ndarray, "units examples"]
) -> tuple[float, ...] | None:
    r"""Leave-one-out share of each unit: :math:`[d(G) - d(G \setminus u)] / d(G)`; None where the group has no effect.

    1 for each unit of a pair that back each other up. 0 for a bystander, and for each link of a chain, because any
    other link breaks the chain as well: see :mod:`harness.closure.necessity`.
    """
    whole = _mean(group)
    return tuple(float((whole - mean) / whole) for mean in without.mean(axis=1)) if whole != 0 else None


def sufficiency(
    all_units: Float[np.ndarray, " examples"], complement: Float[np.ndarray, " examples"], damage: int
) -> float | None:
    r"""Sufficiency, :math:`1 - d(\bar G) / d(\text{all units})`: how well the group works without all other units.

    1: as well as the whole model. 0: as badly as with every unit ablated. Below 0: worse than with every unit ablated.
    None where ablating every unit does no damage.
    """
    return left(all_units, complement) if damage * _mean(all_units) > 0 else None


def completeness(
    all_units: Float[np.ndarray, " examples"], group: Float[np.ndarray, " examples"], damage: int
) -> float | None:
    r"""Completeness, :math:`1 - d(G) / d(\text{all units})`: how well all other units work without the group.

    0: as badly as with every unit ablated, so the group holds everything that the task needs. 1: as well as the whole
    model. None where ablating every unit does no damage. Source: Wang et al. 2023 (a circuit is complete if the rest
    of the model does nothing that the circuit does not).
    """
    return left(all_units, group) if damage * _mean(all_units) > 0 else None


def left(all_units: Float[np.ndarray, " examples"], ablated: Float[np.ndarray, " examples"]) -> float:
    """The share of the task that is left under an ablation: 1 - its mean change / that of ablating every unit."""
    return 1 - _mean(ablated) / _mean(all_units)


def active(members: Real[np.ndarray, "examples members"], rule: ActiveRule = "any") -> Bool[np.ndarray, " examples"]:
    """On which examples the group is active. A member is active where its spin or activity is above its own mean.

    ``any`` or ``all`` members must be active, or the ``most_selective`` one, which is active least often (if several
    tie, any of them: spins that are split at the median tie). Members that never change are ignored.
    """
    if rule not in get_args(ActiveRule):
        raise HarnessError(f"active={rule} is not a rule.", f"Give one of {', '.join(get_args(ActiveRule))}.")
    if not np.isfinite(members).all():
        raise HarnessError("the activity of a group contains NaN or infinity.", "Check the signal and its transforms.")
    changing = members[:, members.min(axis=0) < members.max(axis=0)] if len(members) else members[:, :0]
    if not changing.shape[1]:
        return np.zeros(len(members), dtype=bool)
    above = changing > changing.mean(axis=0)
    if rule == "most_selective":
        above = above[:, above.sum(axis=0) == above.sum(axis=0).min()]
    examples: Bool[np.ndarray, " examples"] = above.all(axis=1) if rule == "all" else above.any(axis=1)
    return examples


def on_input(
    deltas: Float[np.ndarray, " examples"],
    controls: Float[np.ndarray, "controls examples"],
    active: Bool[np.ndarray, " examples"],
    damage: int,
    ddof: int = 1,
    inflation: float = 1.0,
) -> OnInput:
    """The closure test on the examples where the group is active; see :class:`OnInput`.

    A mechanism that is rarely used does little damage on average over all examples, even less than random units that
    belong to two mechanisms. On the examples where it is active, it can pass.
    """
    if len(active) != len(deltas):
        raise HarnessError(
            f"activity was measured on {len(active)} examples, damage on {len(deltas)}.", "Measure both on one batch."
        )
    n = int(active.sum())
    if n == 0:
        return OnInput(0, None, (), None, None, None, None)
    delta = _mean(deltas[active])
    control_deltas = tuple(float(mean) for mean in controls[:, active].mean(axis=1))
    off = _mean(deltas[~active]) if n < len(active) else None
    return OnInput(
        n=n,
        delta=delta,
        controls=control_deltas,
        z=z_score(delta, control_deltas, ddof),
        p=p_value(delta, inflated(control_deltas, inflation), damage) if math.isfinite(inflation) else None,
        off_input=off,
        leakage=off / delta if off is not None and delta != 0 else None,
    )


def _mean(deltas: Float[np.ndarray, " examples"]) -> float:
    """The mean; exactly 0 where the changes cancel except for rounding errors, so that no ratio divides by these."""
    mean = float(deltas.mean())
    return mean if abs(mean) > 1e-12 * float(np.abs(deltas).max()) else 0.0
