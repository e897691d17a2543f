"""The experts of a mixture: their shares of every domain beside the uniform line, and usage against damage."""

from __future__ import annotations

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from harness.board.compare_cells import metric_label
from harness.board.figures.style import NewFigure, figure
from harness.cells.expert_survey import ExpertSurvey

MOST_LAYERS = 8
"""Layers that are drawn: the first ones."""


def experts_figure(survey: ExpertSurvey, new: NewFigure = figure) -> Figure:
    """A row of bars for each layer, then two panels: usage and the lift of the largest share against damage."""
    found, units = survey.specialisation, survey.units
    sites = [np.flatnonzero(units.site_of == site) for site in range(min(len(units.sites), MOST_LAYERS))]
    drawn = new(9.0, 1.5 * len(sites) + 3.2)
    above, below = drawn.subfigures(2, 1, squeeze=False, height_ratios=[1.5 * len(sites), 3.2])[:, 0]
    width = 0.8 / len(found.domains)
    panels = above.subplots(len(sites), 1, squeeze=False)[:, 0]
    for axes, site in zip(panels, sites, strict=True):
        for place, domain in enumerate(found.domains):
            heights, at = found.shares[place, site], np.arange(len(site)) + (place + 0.5) * width - 0.4
            limits = np.abs(np.clip(survey.intervals[domain][site].T, 0, 1) - heights)
            axes.bar(at, heights, width, yerr=limits, color=colormaps["tab10"](place), label=domain,
                     error_kw={"elinewidth": 0.7})  # fmt: skip
        axes.axhline(found.uniform[site[0]], color="0.4", linestyle="--", linewidth=1, label="uniform, k / E")
        axes.set_xticks(range(len(site)), [units.labels[unit] for unit in site])
        axes.set(ylabel="share routed", ylim=(0, None))
    panels[0].legend(fontsize=7, ncols=len(found.domains) + 1, loc="lower right", bbox_to_anchor=(1, 1))
    metric, sign = next(iter(survey.damage.damage.items()))
    names = ("usage", "lift of that share")
    for axes, name in zip(below.subplots(1, 2), names, strict=True):
        raw, partial = survey.associations()[name]
        points = axes.scatter(survey.predictors[name], survey.importance, c=units.depth_of, cmap="viridis", s=18)
        axes.axhline(0, color="0.7", linewidth=0.8)
        lines = [] if raw is None else [f"Spearman {raw.text}"]
        lines += [] if partial is None or not partial.held else [f"others held fixed {partial.text}"]
        axes.set_title("\n".join(lines), fontsize=8)
        axes.set(
            xlabel=name.replace("that share", "the largest share"), ylabel=f"damage ({metric_label(metric, sign)})"
        )
    if len(units.sites) > 1:
        below.colorbar(points, ax=below.axes, label="layer", ticks=sorted(set(units.depth_of.tolist())))
    return drawn
