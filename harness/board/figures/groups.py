"""Figures of a cell's groups before any ablation: correlations, layers, importances, and the inputs they follow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int
from markupsafe import Markup

from harness.board.figures.affinity import affinity_figure
from harness.board.figures.style import CANDIDATE, figure, style, svg
from harness.data.grouping import Affinity, Partition
from harness.data.units import UnitSpace

BARS = "#2f7ed8"
PANELS = 8
"""Up to this many sites have a panel in the picture of single inputs."""


def correlations(
    matrix: Float[np.ndarray, "shown shown"], shown: Int[np.ndarray, " shown"], units: UnitSpace, labels: Sequence[int]
) -> Markup:
    """The correlation matrix of activity, units in the order of their groups."""
    some = UnitSpace(tuple(units.units[place] for place in shown.tolist()))
    of_some = np.array(labels)[shown]
    off_diagonal = matrix * (1 - np.eye(len(matrix)))
    with style():
        groups = Partition(len(set(labels)), of_some)
        drawn = affinity_figure(Affinity(off_diagonal, some), groups, (), "correlation", 1.0)
        return svg(drawn, "correlations of activity, units ordered by group")


def layer_spans(spans: Mapping[str, int]) -> Markup:
    """How many groups of two units or more span one layer, two, ..."""
    counts, total = list(spans.values()), sum(spans.values())
    with style():
        drawn = figure(4.6, 2.8)
        axes = drawn.add_subplot()
        bars = axes.bar(list(spans), counts, color=BARS, width=0.6)
        axes.bar_label(bars, [f"{n} ({100 * n / total:.0f} %)" for n in counts], fontsize=8)
        axes.set(xlabel="layers that a group spans", ylabel="groups")
        axes.margins(y=0.15)
        axes.set_xlim(-0.8, len(counts) - 0.2)
        return svg(drawn, "how many layers the groups span")


def highest_importances(counts: Mapping[str, Sequence[int]], threshold: float) -> Markup:
    """How many subcomponents of each matrix reach which importance on any example; the threshold of being alive."""
    from matplotlib import colormaps

    with style():
        drawn = figure(5.4, 3.0)
        axes = drawn.add_subplot()
        bins = max(map(len, counts.values()))
        below = np.zeros(bins)
        for place, (path, n) in enumerate(counts.items()):
            heights = np.array(n, dtype=float)
            left = np.arange(bins) / bins
            colour = colormaps["tab20"](place % 20)
            axes.bar(left, heights, 0.9 / bins, below, align="edge", color=colour, label=path)
            below += heights
        axes.axvline(threshold, color=CANDIDATE, linestyle="--", linewidth=1, label=f"threshold {threshold:g}")
        axes.set(xlabel="highest importance on any example", ylabel="subcomponents", xlim=(0, 1))
        if len(counts) <= PANELS:
            axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, 1.25), ncols=3)
        return svg(drawn, "highest importance of every subcomponent, and the threshold")


def single_inputs(alone: Float[np.ndarray, "features units"], units: UnitSpace) -> Markup:
    """Importance of every unit where only one feature is present; units of a site in the order of their features."""
    from matplotlib.ticker import MaxNLocator

    sites = list(units.sites)[:PANELS]
    with style():
        drawn = figure(min(1.0 + 2.9 * len(sites), 12.0), 3.6)
        panels = drawn.subplots(1, len(sites), squeeze=False)[0]
        for axes, place in zip(panels, range(len(sites)), strict=True):
            values = alone[:, units.site_of == place]
            order = np.lexsort((-values.max(axis=0), values.argmax(axis=0)))
            image = axes.imshow(
                values[:, order], cmap="magma_r", vmin=0, vmax=1, interpolation="nearest", aspect="auto"
            )
            axes.set(title=sites[place], xlabel="subcomponent")
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_locator(MaxNLocator(integer=True))
        panels[0].set_ylabel("the only feature present")
        drawn.colorbar(image, ax=list(panels), label="importance")
        return svg(drawn, "importance of every subcomponent when one feature is present")
