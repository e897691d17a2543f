"""The figures of a cell, from its record and the files beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import scipy
from jaxtyping import Float
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.board.card import ARROW
from harness.board.figures.affinity import affinity_figure
from harness.board.figures.style import CANDIDATE, INK, NewFigure, figure, style, svg
from harness.closure.report import ClosureReport
from harness.closure.verdict import decision_order
from harness.data.grouping import Affinity, Partition
from harness.data.spectrum import components, lowest
from harness.records.record import PartitionRecord, Record
from harness.util.errors import HarnessError

CONTROLS, BOUND = "#8a8f98", "#2f7ed8"
COLOURS = ("#2f7ed8", "#2a9d61", "#c77c02", "#8a56c4")
"""Of the components in the picture of the spectrum, which has as many."""
EIGENVALUES, BEYOND = 24, 8
"""How many eigenvalues are drawn at least, and how many after those of the groups."""
SMALLEST_SPLIT = 5
"""Smaller components are one group (partitioner ``eigengap``)."""


def cloud(closure: ClosureReport) -> Markup:
    """:func:`cloud_figure` as an element of a page."""
    with style():
        return svg(cloud_figure(closure), "effect of the candidate and of the groups it is compared with, per metric")


def cloud_figure(closure: ClosureReport, new: NewFigure = figure) -> Figure:
    """Per metric, the effects of the candidate, of each group it is compared with, and of all units of its sites."""
    names = decision_order(closure.effects)
    with style():
        drawn = new(6.4, 0.5 + 0.95 * len(names))
        for axes, name in zip(drawn.subplots(len(names), 1, squeeze=False)[:, 0], names, strict=True):
            effect = closure.effects[name]
            _dots(axes, effect.controls, "compared groups")
            low, high = effect.interval or (effect.delta, effect.delta)
            axes.plot([low, high], [0, 0], color=CANDIDATE, linewidth=2)
            axes.plot([effect.delta], [0], "D", color=CANDIDATE, markersize=7, label="candidate")
            if name in closure.site_ablation:
                bound = closure.site_ablation[name]
                axes.axvline(bound, color=BOUND, linestyle="--", linewidth=1, label="all units of its sites")
            _name(axes, f"{name.replace('_', ' ')} {ARROW[effect.damage]}")
        drawn.axes[0].legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, fontsize=8)
        drawn.axes[-1].set_xlabel("change under ablation")
    return drawn


def necessity(closure: ClosureReport) -> Markup | None:
    """Per deciding metric, T of the candidate and of each group like it; None for the former test."""
    effects = {
        name: effect
        for name in decision_order(closure.effects)
        if (effect := closure.effects[name]).decides and effect.statistic is not None
    }
    if not effects:
        return None
    with style():
        drawn = figure(6.4, 0.5 + 0.95 * len(effects))
        for axes, (name, effect) in zip(
            drawn.subplots(len(effects), 1, squeeze=False)[:, 0], effects.items(), strict=True
        ):
            _dots(axes, [value for value in effect.statistics if value is not None], "groups of the same profile")
            axes.plot([effect.statistic], [0], "D", color=CANDIDATE, markersize=7, label="candidate")
            _name(axes, name.replace("_", " "))
        drawn.axes[0].legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, fontsize=8)
        drawn.axes[-1].set_xlabel("necessity T: damage that needs more than the strongest unit")
        return svg(drawn, "necessity of the candidate and of groups of the same profile, per metric")


def _dots(axes: Axes, values: Sequence[float], label: str) -> None:
    height = (np.arange(len(values)) * 0.618) % 1 - 0.5  # spread evenly, the same on every run
    axes.scatter(values, height, s=9, color=CONTROLS, alpha=0.7, linewidths=0, label=label)


def _name(axes: Axes, label: str) -> None:
    """A row with a line at zero and its label to the left."""
    axes.axvline(0, color=INK, linewidth=0.6)
    axes.set(yticks=[], ylim=(-0.8, 0.8), ylabel=label)
    axes.spines["left"].set_visible(False)
    axes.yaxis.label.set(rotation=0, ha="right", va="center")


def by_example(closure: ClosureReport, deltas: Float[np.ndarray, "metrics groups examples"]) -> Markup:
    """The candidate's change on every example against the mean of its controls, on the metric that decides first."""
    name = decision_order(closure.effects)[0]
    candidate, *controls = deltas[list(closure.effects).index(name)]
    with style():
        drawn = figure(4.6, 3.6)
        axes = drawn.add_subplot()
        mean = np.mean(controls, axis=0) if controls else np.zeros_like(candidate)
        axes.scatter(mean, candidate, s=14, color=CANDIDATE, alpha=0.8, linewidths=0)
        axes.axline((0, 0), slope=1, color=INK, linewidth=0.6)
        axes.set(xlabel=f"{name.replace('_', ' ')}: mean change by controls", ylabel="change by the candidate")
        return svg(drawn, "change on every example, by the candidate and by its controls")


def ordered_affinity(affinity: Affinity, partition: PartitionRecord, candidate: Sequence[str]) -> Markup:
    """The affinity matrix, units in the order of their groups."""
    members = affinity.units.find(candidate)
    with style():
        drawn = affinity_figure(affinity, Partition(partition.k, np.array(partition.labels)), members)
        return svg(drawn, "affinity matrix, units ordered by group")


def spectrum(affinity: Affinity, labels: Sequence[int], inside: bool = False) -> Markup:
    """Lowest eigenvalues of the normalised Laplacian of |affinity|, with the number of the partition's groups.

    Over all components together, with the widest gap; or, where groups were sought ``inside`` components, of each of
    the largest, with the gap after as many eigenvalues as the partition has groups there. Units without any link are
    left out. Errors: no links; a large component without clear groups.
    """
    links = scipy.sparse.csr_array(abs(affinity.links))
    order = affinity.units.canonical
    parts = sorted((part for part in components(links) if len(part[0]) > 1), key=lambda part: -len(part[0]))
    if not parts:
        raise HarnessError("no two units have any affinity.")
    with style():
        drawn = figure(5.4, 3.4)
        axes = drawn.add_subplot()
        axes.set(xlabel="index", ylabel="eigenvalue")
        if inside and len(parts[0][0]) >= SMALLEST_SPLIT:
            large = [part for part in parts if len(part[0]) >= SMALLEST_SPLIT]
            for (members, part), colour in zip(large, COLOURS, strict=False):
                _component(axes, part, len({labels[unit] for unit in order[members].tolist()} - {-1}), colour)
            others = len(parts) - min(len(large), len(COLOURS))
            count = f"{len(parts)} component{'s' * (len(parts) > 1)}"
            axes.set_title(f"{count}{f'; {others} are not shown' if others else ''}", fontsize=9)
        else:
            _together(axes, [part for _, part in parts], len(set(labels) - {-1}))
        axes.legend(fontsize=8)
        return svg(drawn, "lowest eigenvalues of the affinity's Laplacian")


def _component(axes: Axes, links: scipy.sparse.csr_array, groups: int, colour: str) -> None:
    """One component's eigenvalues, with the gap after as many as it has groups."""
    values = lowest(links, min(groups + BEYOND, links.shape[0])).values
    gap = f", gap {values[groups] - values[groups - 1]:.2f} after {groups}" if 0 < groups < len(values) else ""
    name = f"{links.shape[0]} units in {groups} groups{gap}"
    axes.plot(range(1, len(values) + 1), values, "o-", color=colour, linewidth=0.6, markersize=4, label=name)
    if gap:
        axes.plot([groups, groups + 1], values[groups - 1 : groups + 1], color=CANDIDATE, linewidth=2.5)


def _together(axes: Axes, parts: Sequence[scipy.sparse.csr_array], groups: int) -> None:
    """The eigenvalues of all components, with the widest gap."""
    most = max(EIGENVALUES, groups + BEYOND)
    spectra = [lowest(part, min(most, part.shape[0])).values for part in parts]
    values = np.sort(np.concatenate(spectra))[:most]
    axes.plot(range(1, len(values) + 1), values, "o-", color=INK, linewidth=0.6, markersize=4)
    widest = int(np.argmax(np.diff(values).round(10))) + 1 if len(values) > 1 else 1
    axes.axvspan(widest, widest + 1, color=BOUND, alpha=0.2, label=f"widest gap: {widest} groups")
    axes.axvline(groups + 0.5, color=CANDIDATE, linestyle="--", linewidth=1, label=f"this partition: {groups}")


def leave_one_out(closure: ClosureReport) -> Markup | None:
    """The share of the candidate's effect that is lost without each unit; None if it was not measured."""
    name = decision_order(closure.effects)[0]
    shares = closure.anatomy[name].leave_one_out if name in closure.anatomy else None
    if not shares:
        return None
    with style():
        drawn = figure(5.4, 0.7 + 0.22 * len(shares))
        axes = drawn.add_subplot()
        axes.barh(range(len(shares)), [100 * share for share in shares], color=CANDIDATE, height=0.7)
        axes.set_yticks(range(len(shares)), closure.units)
        axes.invert_yaxis()
        axes.axvline(0, color=INK, linewidth=0.6)
        axes.set_xlabel(f"share of the effect on {name.replace('_', ' ')} that is lost without the unit (%)")
        return svg(drawn, "share of the effect that is lost without each unit")


def affinity_of(record: Record, arrays: Mapping[str, np.ndarray]) -> Affinity:
    """The affinity stored beside a record."""
    return Affinity.of(arrays, record.unit_space, {})
