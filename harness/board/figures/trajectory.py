"""Classes through training: selectivity, score, necessity and verdict at every checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harness.board import emergence
from harness.board.figures.style import INK, NewFigure, figure, style, svg
from harness.board.trajectory import RICHNESS, Course, Trajectory
from harness.closure.verdict import Verdict, spaced

COLOURS = ("#2f7ed8", "#d1495b", "#2a9d61", "#c77c02", "#8a56c4", "#4f5b66", "#16a2b8", "#b0407c")
BOUND = "#8a8f98"
PASSED = {Verdict.PASS: "full", Verdict.WEAK_PASS: "left", Verdict.REDUNDANT: "left"}
UNDECIDED = (Verdict.UNDERPOWERED, Verdict.INCONCLUSIVE, Verdict.NOT_SPECIFIC)


def classes_figure(trajectory: Trajectory) -> Markup:
    """:func:`drawn` as an element of a page."""
    with style():
        return svg(drawn(trajectory), "selectivity, score and necessity of every class, by training step")


def save(trajectory: Trajectory, path: Path) -> None:
    """:func:`drawn` as a picture on white."""
    with style():
        drawn(trajectory).savefig(path, format="png", dpi=130, facecolor="white", metadata={"Software": None})


def drawn(trajectory: Trajectory, new: NewFigure = figure) -> Figure:
    """Four panels over the same checkpoints, which stand at equal distances: training has no natural scale."""
    steps = trajectory.steps
    made = new(7.2, 8.4)
    above, middle, below, model = made.subplots(4, 1, sharex=True, height_ratios=(3, 3, 3, 1.4))
    for place, course in enumerate(trajectory.courses):
        colour, x = COLOURS[place % len(COLOURS)], [steps.index(step) for step in course.steps]
        shift = 0.06 * (place - (len(trajectory.courses) - 1) / 2)
        x_shifted = [at + shift for at in x]
        _line(above, x_shifted, [p.selectivity for p in course.points], colour, course.name)
        _line(middle, x_shifted, [p.score for p in course.points], colour, "")
        _necessity(below, x_shifted, course, colour)
    above.set_yscale("log")
    above.yaxis.set_major_formatter("{x:g}")  # text.parse_math is off
    above.axhline(emergence.SELECTIVE, color=BOUND, linestyle="--", linewidth=0.9)
    above.set_ylabel("selectivity")
    scores = [point.score.value for course in trajectory.courses for point in course.points if point.score]
    if trajectory.signal == RICHNESS and max(scores, default=0.0) >= emergence.RICH / 2:  # else it is far above
        middle.axhline(emergence.RICH, color=BOUND, linestyle="--", linewidth=0.9)
    middle.set_ylabel(spaced(trajectory.signal))
    below.axhline(0, color=INK, linewidth=0.6)
    below.set_ylabel(f"necessity T ({spaced(trajectory.metric)})")
    below.set_title("full: pass, half: weak pass or redundant, cross: open, empty: no function", fontsize=8, loc="left")
    model.plot([steps.index(step) for step in trajectory.accuracy], list(trajectory.accuracy.values()), "o-", color=INK,
               markersize=3, linewidth=1)  # fmt: skip
    model.set(ylabel="accuracy", ylim=(-0.05, 1.05), xlabel="training step")
    model.set_xticks(range(len(steps)), [f"{step}" for step in steps], rotation=0 if len(steps) < 10 else 45)
    above.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, fontsize=8)
    return made


def _line(axes: Axes, x: Sequence[float], figures: Sequence[emergence.Figure | None], colour: str, label: str) -> None:
    known = [(at, each) for at, each in zip(x, figures, strict=True) if each is not None]
    if not known:
        return
    values = [each.value for _, each in known]
    low = [max(each.value - each.low, 0.0) for _, each in known]
    high = [max(each.high - each.value, 0.0) for _, each in known]
    at = [position for position, _ in known]
    axes.errorbar(at, values, yerr=[low, high], color=colour, marker="o", markersize=3.5, linewidth=1.2,
                  elinewidth=0.7, capsize=1.5, label=label)  # fmt: skip


def _necessity(axes: Axes, x: Sequence[float], course: Course, colour: str) -> None:
    known = [(at, p.necessity, p.verdict) for at, p in zip(x, course.points, strict=True) if p.necessity is not None]
    axes.plot([at for at, *_ in known], [necessity for _, necessity, _ in known], color=colour, linewidth=1)
    for at, necessity, verdict in known:
        open_ = verdict in UNDECIDED
        axes.plot(
            [at],
            [necessity],
            "x" if open_ else "o",
            color=colour,
            markersize=6,
            fillstyle="full" if open_ else PASSED.get(verdict, "none"),
        )
