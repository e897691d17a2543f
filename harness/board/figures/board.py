"""The two figures of a board: mean ranks with their critical difference, and score against cost."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from harness.board.board import Board
from harness.board.figures.style import INK, figure, style, svg
from harness.board.references import Kind

COLOURS = {Kind.METHOD: "#2f7ed8", Kind.BASELINE: "#8a8f98", Kind.CEILING: "#c77c02", Kind.SUPERVISED: "#a04fc4"}


def mean_ranks(board: Board) -> Markup | None:
    """Mean rank of every method (1: best), the critical difference from the best shaded; None without a comparison."""
    comparison = board.comparison
    if comparison.critical_difference is None:
        return None
    kinds = {row.method: row.kind for row in board.rows}
    names = distinguishing_words(comparison.methods)
    ordered = sorted(zip(comparison.mean_ranks, comparison.methods, names, strict=True), reverse=True)
    with style():
        drawn = figure(6.4, 1.1 + 0.24 * len(ordered))
        axes = drawn.add_subplot()
        best = ordered[-1][0]
        width = comparison.critical_difference
        axes.axvspan(best - width, best + width, color="#8a8f98", alpha=0.15)
        for y, (rank, method, _) in enumerate(ordered):
            colour = COLOURS[kinds[method]]
            axes.plot([rank], [y], "o", color=colour, markersize=5)
        axes.set_yticks(range(len(ordered)), [name for _, _, name in ordered])
        axes.set_xlim(0.5, len(ordered) + 0.5)
        axes.set_xlabel("mean rank over tasks (1: best)\nshaded: no significant difference from the best")
        return svg(drawn, "mean rank of every method, and the critical difference from the best")


def quality_and_cost(board: Board) -> Markup | None:
    """Score against seconds per cell, with a line through the Pareto-optimal rows; None with fewer than two rows."""
    rows = [row for row in board.rows if row.complete and row.seconds]
    if len(rows) < 2:
        return None
    methods = [row.method for row in rows]
    names = dict(zip(methods, distinguishing_words(methods), strict=True))
    with style():
        drawn = figure(6.4, 3.4)
        axes = drawn.add_subplot()
        for kind, colour in COLOURS.items():
            of_kind = [row for row in rows if row.kind is kind]
            if of_kind:
                seconds = [row.seconds or 0.0 for row in of_kind]
                axes.scatter(seconds, [row.score for row in of_kind], s=30, color=colour, label=kind.value, zorder=3)
        optimal = sorted((row.seconds or 0.0, row.score, row.method) for row in rows if row.pareto_optimal)
        axes.step(
            [s for s, _, _ in optimal], [score for _, score, _ in optimal], where="post", color=INK, linewidth=0.8
        )
        for x, score, method in optimal:
            axes.annotate(names[method], (x, score), (4, 5), textcoords="offset points", fontsize=8)
        durations = [row.seconds or 0.0 for row in rows]
        axes.set_xscale("log" if max(durations) > 10 * min(durations) else "linear")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("")  # that of a logarithmic axis writes mathtext, which is off
        axes.set(xlabel="seconds per cell", ylabel="score")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, fontsize=8, handletextpad=0.2, columnspacing=1)
        return svg(drawn, "score against seconds per cell")


def distinguishing_words(methods: Sequence[str]) -> list[str]:
    """The names without the words that all of them share at the same position."""
    words = [method.split() for method in methods]
    if len(methods) < 2 or len({len(each) for each in words}) > 1:
        return list(methods)
    differ = [len(set(column)) > 1 for column in zip(*words, strict=True)]
    return [" ".join(word for word, shown in zip(each, differ, strict=True) if shown) for each in words]
