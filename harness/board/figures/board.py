"""The two pictures of a board: mean ranks with their critical difference, and quality against cost."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from harness.board.figures.style import INK, figure, style, svg
from harness.board.references import Kind
from harness.board.table import Board

COLOURS = {Kind.METHOD: "#2f7ed8", Kind.BASELINE: "#8a8f98", Kind.CEILING: "#c77c02", Kind.SUPERVISED: "#a04fc4"}


def told_apart(board: Board) -> Markup | None:
    """Mean rank of every row (1: best) with half the critical difference to either side; None where not asked."""
    found = board.comparison
    if found.critical_difference is None:
        return None
    kinds = {row.method: row.kind for row in board.rows}
    names = distinct(found.methods)
    ordered = sorted(zip(found.mean_ranks, found.methods, names, strict=True), reverse=True)
    with style():
        drawn = figure(6.4, 0.9 + 0.24 * len(ordered))
        axes = drawn.add_subplot()
        best = ordered[-1][0]
        axes.axvspan(best - found.critical_difference, best + found.critical_difference, color="#8a8f98", alpha=0.15)
        for y, (rank, method, _) in enumerate(ordered):
            colour = COLOURS[kinds[method]]
            axes.plot([rank], [y], "o", color=colour, markersize=5)
        axes.set_yticks(range(len(ordered)), [name for _, _, name in ordered])
        axes.set_xlim(0.5, len(ordered) + 0.5)
        axes.set_xlabel("mean rank over tasks (1: best); shaded: not told from the best")
        return svg(drawn, "mean rank of every row, and the critical difference from the best")


def quality_and_cost(board: Board) -> Markup | None:
    """Score against seconds per cell; the line joins the rows that nothing beats in both. None with a single row."""
    rows = [row for row in board.rows if row.complete and row.seconds]
    if len(rows) < 2:
        return None
    names = dict(zip([row.method for row in rows], distinct([row.method for row in rows]), strict=True))
    with style():
        drawn = figure(6.4, 3.4)
        axes = drawn.add_subplot()
        for kind, colour in COLOURS.items():
            own = [row for row in rows if row.kind is kind]
            if own:
                seconds = [row.seconds or 0.0 for row in own]
                axes.scatter(seconds, [row.score for row in own], s=30, color=colour, label=kind.value, zorder=3)
        best = sorted((row.seconds or 0.0, row.score, row.method) for row in rows if row.frontier)
        axes.step([s for s, _, _ in best], [score for _, score, _ in best], where="post", color=INK, linewidth=0.8)
        for seconds_, score, method in best:
            axes.annotate(names[method], (seconds_, score), (4, 5), textcoords="offset points", fontsize=8)
        spent = [row.seconds or 0.0 for row in rows]
        axes.set_xscale("log" if max(spent) > 10 * min(spent) else "linear")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set_ylim(-0.05, 1.05)
        axes.set(xlabel="seconds per cell", ylabel="share of tests passed")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, fontsize=8, handletextpad=0.2, columnspacing=1)
        return svg(drawn, "share of tests passed against seconds per cell")


def distinct(methods: Sequence[str]) -> list[str]:
    """The names without the words that all of them have in the same place."""
    words = [method.split() for method in methods]
    if len(methods) < 2 or len({len(each) for each in words}) > 1:
        return list(methods)
    differ = [len(set(column)) > 1 for column in zip(*words, strict=True)]
    return [" ".join(word for word, shown in zip(each, differ, strict=True) if shown) for each in words]
