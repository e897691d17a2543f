"""Fidelity against sparsity over the penalty: reconstruction, L0, F and closure."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from harness.board.fidelity import Point
from harness.board.figures.style import NewFigure, figure

COLOURS = ("#2f7ed8", "#d1495b", "#2a9d61", "#c77c02", "#8a56c4")


def fidelity_figure(points: Sequence[Point], new: NewFigure = figure) -> Figure:
    """One target over the penalty: errors, L0 and alive, F and the share of groups that pass; a line per method."""
    methods = list(dict.fromkeys(point.method for point in points))
    drawn = new(10.5, 3.4)
    errors, sparsity, groups = drawn.subplots(1, 3)
    first = [point for point in points if point.method == methods[0]]  # the decompositions are the same for all methods
    x = [point.penalty for point in first]
    for name, marker in (("masked", "o"), ("stochastic", "s")):
        values = [getattr(point, name) for point in first]
        if None not in values:
            errors.plot(x, values, marker=marker, markersize=5, label=name, color=COLOURS[marker == "s"])
    if first[0].own is not None:
        errors.axhline(first[0].own, color=COLOURS[2], linestyle="--", linewidth=1, label="the target's own error")
    counts = {"L0": [point.l0 for point in first], "exact features": [point.exact for point in first]}
    for (label, values), colour in zip(counts.items(), COLOURS[::2], strict=False):
        if None not in values:
            sparsity.plot(x, values, "o-", markersize=5, label=label, color=colour)
    sparsity.plot(x, [point.alive for point in first], "s-", markersize=5, label="alive", color=COLOURS[1])
    for method, colour in zip(methods, COLOURS, strict=False):
        series = [point for point in points if point.method == method]
        of = f" ({method})" if method else ""
        for label, line, values in (("F of proposed groups", "o-", [p.F for p in series]),
                                    ("share that passes", "s--", [p.share for p in series])):  # fmt: skip
            shown = [(point.penalty, value) for point, value in zip(series, values, strict=True) if value is not None]
            if shown:
                groups.plot(*zip(*shown, strict=True), line, markersize=5, label=f"{label}{of}", color=colour)
    groups.set_ylim(-0.03, 1.03)
    errors.set_yscale("log")
    sparsity.set_yscale("log")
    for axes, title in ((errors, "error of the outputs"), (sparsity, "subcomponents"), (groups, "groups")):
        axes.set(xscale="log", xlabel="penalty", title=title)
        axes.legend(fontsize=7)
    drawn.suptitle(points[0].target, fontsize=10)
    return drawn
