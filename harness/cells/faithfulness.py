"""The faithfulness curve of a cell: its method's ranking, on the examples and by the ablation of its closure test."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from harness.cells.inputs import Inputs
from harness.cells.size_curve import ranked_units
from harness.closure.faithfulness import Faithfulness, faithfulness
from harness.data.sampling import Group
from harness.proposal.proposal import Proposal
from harness.util.errors import HarnessError


def faithfulness_of(inputs: Inputs, proposal: Proposal) -> Faithfulness:
    """The curve of all units in the order in which the method would add them to a group.

    Ranked on the proposal half, measured on the test half. Errors: a group named by hand and strata, which order no
    units; those of :func:`harness.closure.faithfulness.faithfulness`.
    """
    cell, batch = inputs.cell, inputs.test_half
    if cell.settings.group or cell.divided:
        what = "a group named by hand" if cell.settings.group else "a cell that divides its examples"
        raise HarnessError(f"curve: {what} has no ranking of all units.", "Leave out group=, or use stratifier=none.")
    assert batch is not None
    metrics = cell.stages["metric"]
    documents = batch.groups.get("document")
    clusters = None if documents is None else np.unique(documents, return_inverse=True)[1]

    def values(groups: Sequence[Group]) -> Float[np.ndarray, "groups examples"]:
        what = f"{len(groups)} groups, {len(batch)} examples"
        with inputs.progress.step("curve", what, len(groups) * len(batch)) as tick:
            every = inputs.evaluate(batch, groups, cell.stages["intervention"], metrics, tick, inputs.proposal_half)
        first: Float[np.ndarray, "groups examples"] = every[0]
        return first

    order = ranked_units(proposal)
    name = cell.methods["metric"][0].name
    return faithfulness(order, inputs.subject.units, name, values, cell.settings.seed, clusters)
