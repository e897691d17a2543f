"""What is inside a group: whether its members need each other, which of them are dispensable, when they are at work."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, Float, Real

from harness.closure.statistics import bootstrap_means, inflated, p_value, z_score
from harness.util.errors import HarnessError

ActiveRule = Literal["any", "all", "most_selective"]
DISPENSABLE = 0.05
"""Up to this share of a group's damage a unit is dispensable."""


@dataclass(frozen=True)
class Interaction:
    """How far the whole is more than its parts, per part beyond the first, and its 95 % interval over examples."""

    value: float
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class OnInput:
    """What ablation did on the ``n`` examples where the group is active.

    ``delta``: mean change there; ``controls``: each control group's on the same examples; ``z``, ``p``: one against
    the others; ``off_input``: mean change on the other examples (None where there are none); ``leakage``: ``off_input / delta``,
    about 0 for a mechanism that does nothing where it is not used. All None where the group is never active.
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
    r"""What the group's ablation does beyond the sum of its parts' ablations.

    .. math:: I = \frac{d(G) - \sum_{u \in G} d(u)}{(g - 1)\, d(G)}

    -1 for a serial chain (each part alone does all the damage), 0 for parts that do independent damage, above 0 for
    parts that stand in for each other: :math:`1/(g-1)` where each alone does nothing. None for a single part, or where
    the group does nothing on average. The interval resamples examples, whole and parts together, and is None where
    some resample has the group do nothing, or the opposite: the ratio then has no bounds.

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
    r"""Leave-one-out share of each unit: :math:`[d(G) - d(G \setminus u)] / d(G)`; None where the group does nothing.

    1 for each of a pair that stand in for each other; 0 for a bystander, and for each link of a chain, which is broken
    by any other link: see :func:`dispensable`.
    """
    whole = _mean(group)
    return tuple(float((whole - mean) / whole) for mean in without.mean(axis=1)) if whole != 0 else None


def single_unit(
    group: Float[np.ndarray, " examples"], parts: Float[np.ndarray, "units examples"]
) -> tuple[float, ...] | None:
    r"""What each unit does by itself, as a share of what the group does: :math:`d(u) / d(G)`; None as for leave_one_out."""
    whole = _mean(group)
    return tuple(float(mean / whole) for mean in parts.mean(axis=1)) if whole != 0 else None


def dispensable(
    leave_one_out: Sequence[float], single_unit: Sequence[float] | None = None, epsilon: float = DISPENSABLE
) -> tuple[int, ...]:
    """Which units (by place) the group can do without: their share is at most ``epsilon``.

    A link of a chain has no share either, as the next link breaks the chain as well, but does the damage alone: given
    what each unit does ``single_unit``, only those that add nothing and do nothing are dispensable.
    """
    own = leave_one_out if single_unit is None else single_unit
    return tuple(
        i for i, (share, mine) in enumerate(zip(leave_one_out, own, strict=True)) if max(share, mine) <= epsilon
    )


def minimality(
    leave_one_out: Sequence[float], single_unit: Sequence[float] | None = None, epsilon: float = DISPENSABLE
) -> float:
    """Share of the units that are not :func:`dispensable`: 1 where every unit is needed."""
    if not leave_one_out:
        raise HarnessError("minimality is asked of a group without units.", "Give the share of at least one unit.")
    return 1 - len(dispensable(leave_one_out, single_unit, epsilon)) / len(leave_one_out)


def sufficiency(
    everything: Float[np.ndarray, " examples"], complement: Float[np.ndarray, " examples"], damage: int
) -> float | None:
    r"""Sufficiency: what the group keeps when every other unit is ablated, :math:`1 - d(\bar G) / d(\text{all units})`.

    1: as good as the whole model; 0: as bad as none of it; below 0: worse than that. None where ablating every unit
    does no damage: there is then nothing to keep.
    """
    whole = _mean(everything)
    return 1 - _mean(complement) / whole if damage * whole > 0 else None


def active(members: Real[np.ndarray, "examples members"], rule: ActiveRule = "any") -> Bool[np.ndarray, " examples"]:
    """On which examples the group is at work: a member is where its spin or activity is above its own mean.

    ``any`` or ``all`` members; or the ``most_selective`` one, which is active least often (where several tie, as all do
    that are cut at their median: any of these). A member that never changes says nothing of when, and is passed over.
    """
    if rule not in get_args(ActiveRule):
        raise HarnessError(f"active={rule}: no such rule.", f"Give one of {', '.join(get_args(ActiveRule))}.")
    if not np.isfinite(members).all():
        raise HarnessError("the activity of a group's members holds NaN or infinity.")
    changing = members[:, members.min(axis=0) < members.max(axis=0)] if len(members) else members[:, :0]
    if not changing.shape[1]:
        return np.zeros(len(members), dtype=bool)
    above = changing > changing.mean(axis=0)
    if rule == "most_selective":
        above = above[:, above.sum(axis=0) == above.sum(axis=0).min()]
    found: Bool[np.ndarray, " examples"] = above.all(axis=1) if rule == "all" else above.any(axis=1)
    return found


def on_input(
    deltas: Float[np.ndarray, " examples"],
    controls: Float[np.ndarray, "controls examples"],
    active: Bool[np.ndarray, " examples"],
    damage: int,
    ddof: int = 1,
    inflation: float = 1.0,
) -> OnInput:
    """Closure on the examples where the group is active, controls measured on the same ones; see :class:`OnInput`.

    Over all examples a mechanism that is rarely used does less damage than two random units of two mechanisms.
    """
    if len(active) != len(deltas):
        raise HarnessError(f"activity was measured on {len(active)} examples, damage on {len(deltas)}.")
    n = int(active.sum())
    if n == 0:
        return OnInput(0, None, (), None, None, None, None)
    delta = _mean(deltas[active])
    against = tuple(float(mean) for mean in controls[:, active].mean(axis=1))
    off = _mean(deltas[~active]) if n < len(active) else None
    return OnInput(
        n=n,
        delta=delta,
        controls=against,
        z=z_score(delta, against, ddof),
        p=p_value(delta, inflated(against, inflation), damage) if math.isfinite(inflation) else None,
        off_input=off,
        leakage=off / delta if off is not None and delta != 0 else None,
    )


def _mean(deltas: Float[np.ndarray, " examples"]) -> float:
    """The mean; exactly 0 where changes cancel but for rounding, so that nothing is ever divided by what is left."""
    mean = float(deltas.mean())
    return mean if abs(mean) > 1e-12 * float(np.abs(deltas).max()) else 0.0
