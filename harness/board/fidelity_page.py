"""Fidelity against sparsity, as sentences, a table, data, and a page."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from harness.board.fidelity import Point
from harness.board.markdown import plain, table
from harness.board.strata import number_or_dash
from harness.records.workspace import atomically, write_atomically

HEADS = ["target", "method", "penalty", "frequency", "error masked", "error stochastic", "L0", "alive", "exact", "F",
         "passed", "share"]  # fmt: skip
MEANING = """\
- **penalty**, **frequency**: the coefficients of the importance penalty and of its frequency term.
- **error masked**, **error stochastic**: of the outputs, against the target's own, with importances as masks (and no
  delta), and with stochastic masks.
- **L0**: subcomponents that an example needs, over all matrices. **alive**: those that any example needs. **exact**:
  features with a subcomponent of their own in every matrix.
- **F**: of the proposed groups with the mechanisms of this decomposition. **passed**: groups with the verdict pass or
  weak_pass, of those tested; **share**: the same as a share. A dash: not known, or not tested.
- The closure test ablates a subcomponent in the target itself and keeps the delta. Low fidelity does not change the
  baseline. Where features share subcomponents, F can be high and **exact** low: read them together.
"""


def as_markdown(points: Sequence[Point], figures: Sequence[str] = ()) -> str:
    """What was found, the table, what its columns mean. ``figures``: files to show, one per target."""
    rows = [
        [
            *(point.target, point.method, f"{point.penalty:g}"),
            *(number_or_dash(value, form) for value, form in (
                (point.frequency, "g"), (point.masked, ".2e"), (point.stochastic, ".2e"), (point.l0, ".2f"))),
            str(point.alive),
            *(number_or_dash(point.exact, ".0f"), number_or_dash(point.F, ".2f")),
            f"{point.passed[0]} of {point.passed[1]}" if point.passed else "-",
            number_or_dash(point.share, ".2f"),
        ]
        for point in points
    ]  # fmt: skip
    pictures = [f"![{plain(target)}]({name})\n" for target, name in zip(_targets(points), figures, strict=False)]
    found = "\n".join(f"- {plain(sentence)}" for sentence in sentences(points))
    return "\n".join(["# Fidelity against sparsity\n", found + "\n", *pictures, table([HEADS, *rows]), MEANING])


def as_data(points: Sequence[Point]) -> dict[str, Any]:
    """The same as data."""
    return {"found": list(sentences(points)), "points": [dataclasses.asdict(point) for point in points]}


def sentences(points: Sequence[Point]) -> Iterator[str]:
    """For every target and method: which penalty proposes the known mechanisms best, and what it costs."""
    for target, method in dict.fromkeys((point.target, point.method) for point in points):
        series = [point for point in points if (point.target, point.method) == (target, method)]
        known = [point for point in series if point.F is not None]
        name = f"{target}, {method}" if method else target
        if not known or len(series) < 2:
            continue
        best = max(known, key=lambda point: (point.F or 0.0, point.share or 0.0))
        faithful = min(series, key=lambda point: point.masked if point.masked is not None else float("inf"))
        yield (
            f"{name}: F is highest ({best.F:.2f}) at the penalty {best.penalty:g}, with an error (masked) of "
            f"{number_or_dash(best.masked, '.1e')}; the error is lowest ({number_or_dash(faithful.masked, '.1e')}) at "
            f"{faithful.penalty:g}, where F is {number_or_dash(faithful.F, '.2f')}."
        )


def write(points: Sequence[Point], folder: Path) -> str:
    """Write ``fidelity.md`` and a picture for each target. Returns the Markdown."""
    from harness.board.figures.fidelity import fidelity_figure

    targets = _targets(points)
    names = [f"fidelity-{place}.png" for place in range(1, len(targets) + 1)]
    for target, name in zip(targets, names, strict=True):
        with atomically(folder / name) as beside:
            fidelity_figure([point for point in points if point.target == target]).savefig(
                beside, format="png", dpi=120
            )
    text = as_markdown(points, names)
    write_atomically(folder / "fidelity.md", text)
    return text


def _targets(points: Sequence[Point]) -> list[str]:
    return list(dict.fromkeys(point.target for point in points))
