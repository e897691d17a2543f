"""The examples on which a candidate and its units are most active."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from harness.cells.inputs import Inputs
from harness.data.grouping import Candidate
from harness.proposal.proposal import Proposal
from harness.records.record import ActiveExample

OF_GROUP, OF_UNIT = 5, 2
UNITS = 16
"""Up to this many units of a candidate have examples of their own."""


def most_active(
    inputs: Inputs, proposal: Proposal, candidate: Candidate
) -> tuple[tuple[ActiveExample, ...], dict[str, tuple[ActiveExample, ...]]]:
    """The examples proposed on with the highest activity: of the group, and by unit.

    The activity of a group is the mean of its units' activities, in standard deviations from their means. Nothing where
    no signal is in use, or where its observations are not examples.
    """
    half = inputs.proposal_half
    if half is None or not proposal.has("measured") or len(proposal.measured.values) != len(half):
        return (), {}
    activity = proposal.measured.values[:, list(candidate.members)].astype(np.float64)
    spread = activity.std(axis=0)
    scores = ((activity - activity.mean(axis=0)) / np.where(spread > 0, spread, 1)).mean(axis=1)

    def top(values: Float[np.ndarray, " examples"], n: int) -> tuple[ActiveExample, ...]:
        order = np.argsort(-values, kind="stable")[:n].tolist()
        return tuple(
            ActiveExample(example, float(values[example]), half.shown(example, inputs.subject.reads))
            for example in order
        )

    named = inputs.subject.units.names(candidate.members)[:UNITS]
    return top(scores, OF_GROUP), {name: top(activity[:, i], OF_UNIT) for i, name in enumerate(named)}
