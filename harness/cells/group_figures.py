"""What groups are like at this checkpoint, where labels compare checkpoints: selectivity and score, with intervals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy
from jaxtyping import Float, Int

from harness.cells.inputs import Inputs
from harness.data.grouping import Labels
from harness.data.stages import call_with
from harness.proposal.proposal import Proposal
from harness.records.record import FIGURES
from harness.util.threads import one_thread

PARTS = 10
"""Parts of the examples, each of which the jackknife leaves out once."""
SMALLEST = 1e-12
"""In place of zero, of which there is no logarithm."""
SCORE = "score of the signal"
Figures = dict[str, Float[np.ndarray, " groups"]]


def group_figures(inputs: Inputs, proposal: Proposal) -> dict[str, dict[str, Any]]:
    """By group: the mean over its units of each class's selectivity, and of the signal's score, at this checkpoint.

    Each figure is ``[value, low, high]``, with a 95 % interval over examples (:func:`jackknife`). They are measured on
    the examples that are proposed on. Empty, unless the labels compare checkpoints.
    """
    half, history, groups = inputs.proposal_half, inputs.history(), [c.members for c in proposal.candidates]
    if not inputs.cell.followed or half is None or history is None or not groups:
        return {}
    stages, units, truth = inputs.cell.stages, inputs.subject.units, inputs.subject.truth
    recording = inputs.record(half, {name: stages[name] for name in ("labels", "signal")})

    def figures(rows: Int[np.ndarray, " some"]) -> Figures:
        some = {"recording": recording.take(rows), "history": history.take(rows)}
        labels: Labels = call_with(stages["labels"], **some, units=units, truth=truth)
        by_unit = {**labels.selectivity, SCORE: call_with(stages["signal"], **some).scores.values}
        return {name: np.array([values[list(group)].mean() for group in groups]) for name, values in by_unit.items()}

    with inputs.progress.step("group figures", f"{len(groups)} groups, {PARTS} parts of the examples"), one_thread():
        values, intervals = jackknife(figures, len(half))
    signal = inputs.cell.methods["signal"][0].name
    found: dict[str, Any] = {}
    for place, group in enumerate(groups):
        each = {name: [float(values[name][place]), *map(float, intervals[name][place])] for name in values}
        score = each.pop(SCORE)
        found[" ".join(units.names(group))] = {"selectivity": each, "signal": signal, "score": score}
    return {FIGURES: found}


def jackknife(
    figures: Callable[[Int[np.ndarray, " some"]], Figures], n: int
) -> tuple[Figures, dict[str, Float[np.ndarray, "groups 2"]]]:
    r"""Figures of ``n`` examples, and their 95 % intervals: the jackknife that leaves out one part at a time.

    .. math:: \exp\Bigl(\log\hat\theta \pm t_{.975,\,G-1} \sqrt{\tfrac{G-1}{G}
              \textstyle\sum_g (\log\hat\theta_{-g} - \overline{\log\hat\theta})^2}\Bigr)

    Figures are zero or positive, and selectivity spans six orders of magnitude, so the logarithm is used; a figure of
    zero has the interval [0, 0]. G is :data:`PARTS`, or n where there are fewer examples; part g has the examples g,
    g + G, g + 2G, ...
    """
    rows = np.arange(n)
    parts = min(PARTS, n)
    values = figures(rows)
    without = [figures(rows[rows % parts != part]) for part in range(parts)]
    factor = float(scipy.stats.t.ppf(0.975, parts - 1))
    intervals = {}
    for name, value in values.items():
        others = np.log(np.maximum([each[name] for each in without], SMALLEST))
        error = np.sqrt((parts - 1) / parts * ((others - others.mean(axis=0)) ** 2).sum(axis=0))
        intervals[name] = value[:, None] * np.exp(factor * error[:, None] * np.array([-1.0, 1.0]))
    return values, intervals
