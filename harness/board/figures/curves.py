"""Faithfulness curves: f by share of the units, between the range of random rankings."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from harness.board.curves import Curves
from harness.board.figures.style import INK, NewFigure, figure
from harness.board.figures.trajectory import COLOURS
from harness.closure.faithfulness import SHARES

LINES = ("-", "--", ":")  # equal curves hide each other


def drawn(curves: Curves, new: NewFigure = figure) -> Figure:
    """A line per method with its 95 % interval; a grey band from the lowest to the highest random ranking."""
    made = new(6.4, 4.2)
    axes = made.subplots()
    random = np.array([curve.faithfulness for curve in curves.first.random])
    axes.fill_between(SHARES, random.min(axis=0), random.max(axis=0), color="#8a8f98", alpha=0.25, linewidth=0,
                      label=f"{len(random)} random rankings")  # fmt: skip
    for place, (method, found) in enumerate(curves.by_method.items()):
        colour, low_high = COLOURS[place % len(COLOURS)], np.array(found.curve.intervals).T
        axes.fill_between(SHARES, *low_high, color=colour, alpha=0.18, linewidth=0)
        axes.plot(SHARES, found.curve.faithfulness, color=colour, marker="o", markersize=3.5, linewidth=1.3,
                  linestyle=LINES[place % len(LINES)],
                  label=f"{curves.names[method]}: CPR {found.curve.cpr:.2f}")  # fmt: skip
    for level in (0, 1):
        axes.axhline(level, color=INK, linewidth=0.6, linestyle="--" if level else "-")
    axes.set_xscale("log")
    axes.set_xticks(
        SHARES, [f"{share:g}\n{size}" for share, size in zip(SHARES, curves.first.curve.sizes, strict=True)]
    )
    axes.minorticks_off()
    axes.set(xlabel="share of the units that are left (below: their number)", ylabel="faithfulness f")
    axes.set_title(curves.title, fontsize=8, loc="left")
    made.legend(loc="outside lower center", fontsize=8, ncols=2)
    return made
