"""The size curve of a cell: the order in which its method ranks all units, and the damage that it is judged by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from harness.cells.inputs import Inputs
from harness.cells.progress import Progress
from harness.closure import size_curve
from harness.closure.size_curve import SizeCurve
from harness.data.batch import Batch
from harness.data.contracts import Tick
from harness.data.grouping import isolation
from harness.data.sampling import Group
from harness.data.stages import inputs_of
from harness.proposal.proposal import Proposal
from harness.util.seeds import rng_for

STEP = "size curve"
EXAMPLES = 32
"""How many examples of each half are used, at most: a curve takes some 600 ablations of 32 units."""


def size_curve_of(inputs: Inputs, proposal: Proposal) -> SizeCurve | None:
    """The size curve of a cell that asks for one. None for a group named by hand and for strata: neither orders all
    units.

    Its ablations do not count as cost of the cell: the first cell of a board does them for all others.
    """
    settings = inputs.cell.settings
    if not settings.size_curve or settings.group or inputs.cell.divided:
        return None
    uncounted = replace(inputs, progress=Progress(quiet=True))
    with inputs.progress.step(STEP) as tick:

        def damage(batch: Batch | None, groups: Sequence[Group]) -> Float[np.ndarray, " groups"]:
            assert batch is not None
            return _damage(uncounted, batch.take(np.arange(min(EXAMPLES, len(batch)))), groups, tick)

        return size_curve.size_curve(
            ranked_units(proposal),
            inputs.subject.units,
            lambda groups: damage(inputs.proposal_half, groups),
            lambda groups: damage(inputs.test_half, groups),
        )


def ranked_units(proposal: Proposal) -> Group:
    """All units, in the order in which the method would add them to a group.

    - Groups: the candidates in the selector's order, the other groups of the chosen partition by isolation, where there
      is an affinity (that of a group of all but zero affinity to the outside is infinite), then units in no group.
    - Within a group: by what the partitioner clusters. Scores: highest first. Affinity or spins: by mean absolute
      affinity to the group. A partitioner that uses neither (random groups, whole layers, labels) has no order within
      a group: it is drawn by a seed.
    """
    matrix = abs(proposal.affinity.matrix) if proposal.has("affinity") else None
    drawn = rng_for(0, "order within groups").permutation(len(proposal.units))
    uses = set(inputs_of(type(proposal.stages["partitioner"])))

    def within(group: Sequence[int]) -> list[int]:
        if "scores" in uses:
            rank = proposal.scores.values[list(group)]
        elif matrix is not None and uses & {"affinity", "spins", "observations", "activity"}:
            rank = np.asarray(matrix[np.ix_(group, group)].sum(axis=1)).ravel()
        else:
            rank = drawn[list(group)]
        return [group[i] for i in np.argsort(-rank, kind="stable")]

    def apart(group: Group) -> float:
        ratio = None if matrix is None else isolation(group, matrix)
        return -np.inf if len(group) < 2 else np.inf if ratio is None else ratio

    candidates = [candidate.members for candidate in proposal.candidates]
    others = sorted(proposal.partition.groups(), key=lambda group: -apart(group))
    everything = range(len(proposal.units))
    return tuple(dict.fromkeys(unit for group in (*candidates, *others, everything) for unit in within(group)))


def _damage(inputs: Inputs, batch: Batch, groups: Sequence[Group], tick: Tick) -> Float[np.ndarray, " groups"]:
    """Mean damage of the first metric by each group. All metrics are evaluated, so that tests share the outcomes."""
    stages = inputs.cell.stages
    first, *_ = stages["metric"]
    values = inputs.evaluate(
        batch, [(), *groups], stages["intervention"], stages["metric"], tick, inputs.proposal_half
    )[0]
    damage: Float[np.ndarray, " groups"] = first.damage * (values[1:] - values[0]).mean(axis=1)
    return damage
