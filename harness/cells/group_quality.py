"""The quality of a cell's groups, measured on the examples proposed on: figures for the record, arrays beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float

from harness.cells.inputs import Inputs
from harness.data.contents import contents_of
from harness.data.recording import Activity
from harness.data.vectors import Vectors
from harness.proposal.proposal import Proposal
from harness.proposal.quality import groups_of, quality_of, standardised
from harness.util.threads import one_thread

FILE = "quality.safetensors"
DESCRIBED = 64
"""Up to this many groups are described one by one, the largest first."""
DRAWN = 600
"""Up to this many units, of the largest groups, have their correlations written beside the record."""
WIDEST = 512
"""Up to this many features are given alone."""
TYPICAL = 0.75
"""A feature that is given alone has this quantile of its values that are not zero."""


@dataclass(frozen=True, eq=False)
class Quality:
    """``figures``: :func:`harness.proposal.quality.quality_of`. ``arrays``: ``units`` [shown], places of units in order
    of their groups; ``correlation`` [shown, shown]; ``alone`` [features, units], the importance where only one feature
    is present."""

    figures: Mapping[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)


def measure(inputs: Inputs, proposal: Proposal) -> Quality:
    """The quality of the chosen partition; nothing where no unit is in a group or no signal is in use."""
    if not (proposal.has("raw_partitions") and proposal.has("measured")) or proposal.trivial:
        return Quality()
    units, labels, activity = proposal.units, proposal.partition.labels, proposal.activity
    half = inputs.proposal_half
    of_examples = half is not None and len(activity.values) == len(half)
    contents = contents_of(half, inputs.subject.reads) if half is not None and of_examples else None
    affinity = proposal.affinity if proposal.has("affinity") else None
    shown = np.concatenate([*groups_of(labels), np.flatnonzero(labels < 0)])[:DRAWN]
    with one_thread():
        figures = quality_of(labels, activity.values, units, affinity, contents, DESCRIBED)
        columns = standardised(activity.values[:, shown])
        arrays = {"units": shown.astype(np.int64), "correlation": (columns.T @ columns).astype(np.float32)}
    reads_importance = getattr(inputs.cell.stages["signal"], "source", "") == "importance"
    if contents is not None and isinstance(half, Vectors) and reads_importance:
        arrays |= _alone(inputs, half)
    return Quality(figures, arrays)


def _alone(inputs: Inputs, half: Vectors) -> dict[str, Float[np.ndarray, "features units"]]:
    """The importance of every unit where only one feature is present; of both signs, where values have both, the larger
    one. Nothing for very wide vectors."""
    width = half.inputs.shape[1]
    if width > WIDEST or not half.inputs.any():
        return {}
    typical = float(np.quantile(np.abs(half.inputs[half.inputs != 0]), TYPICAL))
    signs = [1.0, -1.0] if (half.inputs < 0).any() else [1.0]
    alone = np.concatenate([sign * typical * np.eye(width) for sign in signs]).astype(half.inputs.dtype)
    target = np.zeros((len(alone), *half.target.shape[1:]), dtype=half.target.dtype)
    batch = Vectors(f"{half.name}, one feature", alone, target, half.target_kind)
    signal = inputs.cell.stages["signal"]
    activity: Activity = signal(inputs.record(batch, {"signal": signal}))
    return {"alone": activity.values.reshape(len(signs), width, -1).max(axis=0).astype(np.float32)}
